"""``python -m burnish``: the command line, where the script ``burnish`` is not on the path."""

import sys

from burnish.cli import main

if __name__ == "__main__":
    sys.exit(main())
