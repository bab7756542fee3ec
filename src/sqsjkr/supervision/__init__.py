"""Jobs end with their worker: guard, backstop, and the memory that they share with the worker."""
