"""Who may make a worker do what: the trust file, named jobs, signatures, and secrets by reference.

Nothing here is imported by a worker without a trust file (docs/reference/trust-file.md).
"""
