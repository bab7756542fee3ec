"""Locks and claims under a lease: who may run what, whatever dies (docs/explanation/leases.md)."""
