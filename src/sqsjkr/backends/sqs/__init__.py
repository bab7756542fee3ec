"""Amazon SQS: receive and settle (``queue``), send (``sender``), look at and set up (``client``)."""
