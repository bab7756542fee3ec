"""What an operator sees: one read model behind the verbs, their ``--json``, and the page.

``model`` has the values. Looking needs no right to write, and costs a worker nothing.
"""
