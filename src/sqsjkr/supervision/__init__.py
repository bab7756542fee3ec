"""The launcher, which starts the commands of jobs and ends them with their worker; backstop; shared memory."""
