"""What a worker needs on AWS: find out what is there (``check``), make what is missing (``setup``)."""
