"""``python -m ptq4dit``."""

import sys

from ptq4dit.cli import main

if __name__ == "__main__":
    sys.exit(main())
