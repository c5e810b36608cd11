"""What a benchmark says while it runs: on stderr, so that stdout has the table and the figures."""

import sys
import time


def say(line: str) -> None:
    """Tell what is running."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
