"""The AWS wire: one call, with credentials, signatures, retries and typed errors (docs/decisions/0003)."""
