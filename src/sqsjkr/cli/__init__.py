"""The command line: one file for each verb, and one line in ``main.VERBS``.

A verb's module has ``EPILOG`` (examples and exit codes for ``--help``), ``add_options`` and ``execute``. What all verbs
share: ``options`` says which queue, ``reporting`` turns errors into lines and exit codes.
"""
