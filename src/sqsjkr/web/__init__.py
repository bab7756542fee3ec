"""The HTTP side: stats and health."""
