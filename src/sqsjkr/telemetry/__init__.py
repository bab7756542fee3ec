"""What operators see: log events, their writer, counters, outages."""
