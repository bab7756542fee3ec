"""``python -m sqsjkr``."""

import sys

from sqsjkr.cli.main import main

sys.exit(main())
