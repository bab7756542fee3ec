"""The metrics of a worker: plain numbers that are read when somebody asks for them."""
