"""A program that a host runs as a file: it waits."""

import time
from time import monotonic

if __name__ == "__main__":
    started = monotonic()
    time.sleep(1000)
