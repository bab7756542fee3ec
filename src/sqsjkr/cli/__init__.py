"""The command line: one file for each verb, its options included; ``main`` reads argv and returns the exit code."""
