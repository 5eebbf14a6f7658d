"""python -m aiopoll: the command `aiopoll`."""

import sys

from aiopoll.cli import main

if __name__ == "__main__":
    sys.exit(main())
