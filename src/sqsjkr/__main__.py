"""``python -m sqsjkr``."""

import sys

from sqsjkr.cli import main

sys.exit(main())
