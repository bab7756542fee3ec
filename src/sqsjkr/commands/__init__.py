"""One file for each verb of the command: send, check, setup; ``verbs`` says what each does with its options."""
