"""Running commands: the processes of one job, what they print, and the registry of all that run."""
