// Keeps the page fresh without taking anything out of the reader's hands. Everything works without it.
"use strict";

const EVERY = 5000;
const main = document.querySelector("main");
const state = document.querySelector("#fresh-state");
const toggle = document.querySelector("#fresh-toggle");
let stopped = false;
let looking = false;
let fetchedAt = Date.now();
let failed = "";
let why = "";

// What a reader holds must not move: a selection, a control with the focus, an open order, a marked row.
function held(section) {
  const selection = document.getSelection();
  if (selection && !selection.isCollapsed && section.contains(selection.anchorNode)) return "text is selected";
  const active = document.activeElement;
  if (active && section.contains(active) && active.matches("input, select, textarea")) return "a field is in use";
  if (section.querySelector("details.order[open]")) return "an order is open";
  if (section.querySelector("input[type=checkbox]:checked")) return "rows are marked";
  return "";
}

function remember(section) {
  const active = document.activeElement;
  return {
    open: [...section.querySelectorAll("details[open][id]")].map((each) => each.id),
    focus: active && section.contains(active) ? active.id || active.getAttribute("href") : null,
    scrolled: [...section.querySelectorAll(".scroll, pre")].map((each) => [each.scrollLeft, each.scrollTop]),
  };
}

function restore(section, was) {
  for (const id of was.open) document.getElementById(id)?.setAttribute("open", "");
  if (was.focus) {
    const again = document.getElementById(was.focus) || section.querySelector(`[href="${CSS.escape(was.focus)}"]`);
    again?.focus({ preventScroll: true });
  }
  section.querySelectorAll(".scroll, pre").forEach((each, n) => {
    if (was.scrolled[n]) [each.scrollLeft, each.scrollTop] = was.scrolled[n];
  });
}

function put(section, fresh) {
  if (section.innerHTML === fresh.innerHTML) return;
  const was = remember(section);
  section.replaceChildren(...fresh.childNodes);
  restore(section, was);
}

async function refresh() {
  if (stopped || document.hidden || looking) return;
  looking = true;
  await look().finally(() => (looking = false));
}

async function look() {
  let text;
  try {
    const answer = await fetch(location.href, { redirect: "error" });
    if (answer.status === 403 || answer.status === 421) throw new Error("this browser was let out: open the printed address");
    text = await answer.text();
    failed = answer.ok ? "" : "the last look failed";
  } catch (error) {
    failed = error instanceof TypeError ? "sqsjkr web does not answer" : error.message;
    say();
    return;
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  why = "";
  for (const section of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(section.id);
    if (!next) continue;
    const reason = held(section);
    if (reason) why = reason;
    else put(section, next);
  }
  fetchedAt = Date.now();
  say();
}

function say() {
  if (!state) return;
  const seconds = Math.round((Date.now() - fetchedAt) / 1000);
  const age = seconds < 2 ? "up to date" : `${seconds} s old`;
  if (stopped) state.textContent = `paused, ${age}`;
  else if (failed) state.textContent = `${failed}, ${age}`;
  else state.textContent = why ? `partly held: ${why}` : age;
}

if (toggle && main.dataset.refresh === "yes") {
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    stopped = !stopped;
    toggle.setAttribute("aria-pressed", String(stopped));
    toggle.textContent = stopped ? "Go on" : "Pause";
    if (!stopped) refresh();
    say();
  });
  setInterval(refresh, EVERY);
  setInterval(say, 1000);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
}

// One open order at a time; Escape closes it.
document.addEventListener("toggle", (event) => {
  if (!event.target.matches("details.order[open]")) return;
  for (const other of document.querySelectorAll("details.order[open]")) if (other !== event.target) other.open = false;
}, true);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const open of document.querySelectorAll("details.order[open]")) {
      open.open = false;
      open.querySelector("summary")?.focus();
    }
  } else if (event.key === "/" && !event.target.matches("input, select, textarea")) {
    event.preventDefault();
    document.querySelector("#find")?.focus();
  }
});

// Mark every row of a table, or none.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-mark-all]")) return;
  const form = event.target.form || document;
  for (const box of form.querySelectorAll("input[type=checkbox][name=id]")) box.checked = event.target.checked;
});
