"""What happens before a slot is taken: which message is next, and why none is."""
