"""Templates in a configuration file: what Go's text/template with go-config's functions makes of them."""

from __future__ import annotations

import json
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqsjkr.config.template import expand, render
from sqsjkr.errors import ConfigError

ENV = {"A": "a", "B": "b", "EMPTY": "", "QUOTE": 'say "hi"\\\n', "LINES": "one\ntwo\nthree"}


def rendered(text: str) -> str:
    return render(text, ENV, "config.toml")


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_templates_comes_back_unchanged(text: str) -> None:
    whole = expand(text, {}, "config.toml")
    assert whole.text == text
    assert whole.lines == tuple(range(1, text.count("\n") + 2))


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ env `A` `B` }}", "a"),
        ("{{ env `NOT_SET` `B` `default` }}", "b"),
        ("{{ env `EMPTY` `B` `default` }}", "b"),
        ("{{ env `NOT_SET` `EMPTY` `default` }}", "default"),
        ("{{ env `NOT_SET` `A` }}", "a"),
        ("{{ env `NOT_SET` }}", "NOT_SET"),
        ("{{ env `EMPTY` `` }}", ""),
        ('{{ env "NOT_SET" `B` "default" }}', "b"),
        ("{{env `A`}}", "a"),
        ("{{ env\n`A`\n}}", "a"),
        ("{{ must_env `A` }}", "a"),
        ('{{ must_env "EMPTY" }}', ""),
        ("{{ `default` | env `NOT_SET` }}", "default"),
        ("{{ `A` | must_env }}", "a"),
        ("{{ `literal` }}", "literal"),
        ('{{ "{{" }} and {{ `}}` }}', "{{ and }}"),
        ("{{/* a comment with {{ and\nnewlines */}}", ""),
        ("x}} y", "x}} y"),
    ],
)
def test_a_template_becomes_its_value(template: str, value: str) -> None:
    assert rendered(f"[{template}]") == f"[{value}]"


@pytest.mark.parametrize(
    ("string", "value"),
    [
        (r'"a\tb\n"', "a\tb\n"),
        (r'"\a\b\f\r\v\\\""', '\a\b\f\r\v\\"'),
        (r'"\x41\102\u0043\U00000044"', "ABCD"),
        (r'"\xe3\x81\x82"', "あ"),
        (r"`a\tb`", r"a\tb"),
        ("`two\r\nlines`", "two\nlines"),
        ('"あ"', "あ"),
    ],
)
def test_strings_have_the_escapes_of_go(string: str, value: str) -> None:
    assert rendered(f"{{{{ env {string} }}}}") == value


def test_json_escape_makes_any_value_fit_into_a_toml_string() -> None:
    assert tomllib.loads(rendered('key = "{{ must_env `QUOTE` | json_escape }}"')) == {"key": ENV["QUOTE"]}


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")))
def test_json_escape_loses_nothing_and_leaves_no_html(value: str) -> None:
    escaped = render("{{ must_env `V` | json_escape }}", {"V": value}, "config.toml")
    assert json.loads(f'"{escaped}"') == value
    assert not set(escaped) & set("<>&\n")


def test_a_value_is_not_read_as_a_template_again() -> None:
    assert render("{{ must_env `V` }}", {"V": "{{ must_env `SECRET` }}"}, "x") == "{{ must_env `SECRET` }}"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("1 \n{{- `x` }}\n 2", "1x\n 2"),
        ("1 \n{{ `x` -}}\n 2", "1 \nx2"),
        ("1 \n{{- `x` -}}\n 2", "1x2"),
        ("1 \n{{- /* c */ -}}\n 2", "12"),
        ("1 \n{{- /* c */}}\n 2", "1\n 2"),
        ("{{ `x ` -}}  {{- ` y` }}", "x  y"),
    ],
)
def test_dashes_trim_the_white_space_outside(template: str, text: str) -> None:
    assert rendered(template) == text


@pytest.mark.parametrize(
    "action",
    [
        "{{ .Region }}",
        "{{ if true }}",
        "{{ $x := `a` }}",
        '{{ printf "%s" `A` }}',
        "{{ env }}",
        "{{ env A }}",
        "{{ env `A` | }}",
        "{{ | env `A` }}",
        "{{ must_env `A` `B` }}",
        "{{ json_escape }}",
        "{{ env (must_env `A`) }}",
        "{{}}",
        "{{-}}",
        "{{ /* no space before a comment */ }}",
        "{{ env 'A' }}",
        "{{ env `A` 5 }}",
        "{{ `A` `B` }}",
    ],
)
def test_anything_else_is_an_error_that_names_place_text_and_what_is_supported(action: str) -> None:
    with pytest.raises(ConfigError) as error:
        rendered(f"# first line\n\nregion = {action}")
    line = str(error.value)
    assert line.startswith(f"config.toml:3: {action}: ")
    assert 'supported: {{ env "NAME" "default" }}, {{ must_env "NAME" }}, {{ ... | json_escape }}' in line
    assert "\n" not in line


@pytest.mark.parametrize("action", ["{{ env `A`", "{{ env `A` }", '{{ env "A }}', "{{/* open", "{{", "{{ env `A }}"])
def test_an_action_without_an_end_is_an_error_on_its_first_line(action: str) -> None:
    with pytest.raises(ConfigError, match=r"^config\.toml:2: \{\{[^\n]* supported: [^\n]*$"):
        rendered(f"\n{action}\nnext = 1\n")


def test_a_template_in_a_toml_comment_is_still_a_template() -> None:
    assert rendered("# {{ env `A` }}") == "# a"
    with pytest.raises(ConfigError, match=r"config\.toml:1: \{\{ TODO \}\}: not known here"):
        rendered("# {{ TODO }}")


def test_must_env_of_a_variable_that_is_not_set_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError) as error:
        rendered('[account]\nid = "{{ must_env `ACCOUNT` }}"')
    assert str(error.value) == "config.toml:2: {{ must_env `ACCOUNT` }}: the environment variable ACCOUNT is not set"


@pytest.mark.parametrize("string", [r'"\q"', r'"\x4"', r'"\777"', r'"\U00110000"', r'"\ud800"', r'"\'"'])
def test_an_escape_that_go_does_not_know_is_an_error(string: str) -> None:
    with pytest.raises(ConfigError, match="is no escape of a Go string"):
        rendered(f"{{{{ env {string} }}}}")


def test_what_is_not_utf_8_is_an_error_and_is_not_printed() -> None:
    with pytest.raises(ConfigError, match="the escapes in this string do not make UTF-8"):
        rendered(r'{{ "\xff" }}')
    with pytest.raises(ConfigError, match=r"variable V is not UTF-8$") as error:
        render("{{ env `V` }}", {"V": "secret\udcff"}, "config.toml")
    assert "secret" not in str(error.value)


def test_a_long_action_is_shortened_in_its_error() -> None:
    with pytest.raises(ConfigError) as error:
        rendered("{{ nothing " + "`x` " * 1000 + "}}")
    assert len(str(error.value)) < 250


def test_lines_are_those_of_the_file_below_a_value_with_newlines() -> None:
    whole = expand('a = """{{ env `LINES` }}"""\nb = 1\nc = """{{ env `LINES` }}\n"""\nd = 1', ENV, "config.toml")
    found = {text.split(" ")[0]: whole.line(n) for n, text in enumerate(whole.text.split("\n"), 1) if " = " in text}
    assert found == {"a": 1, "b": 2, "c": 3, "d": 5}


def test_lines_are_those_of_the_file_below_a_trimmed_newline() -> None:
    whole = expand("{{- /* two\nlines */ -}}\n\na = 1\nb = {{ env `A`\n}}\nc = 1\n", ENV, "config.toml")
    assert whole.text == "a = 1\nb = a\nc = 1\n"
    assert whole.lines == (4, 5, 7, 8)
