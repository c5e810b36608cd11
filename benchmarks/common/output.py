"""Output of a benchmark: progress on stderr; a table and, as the last line, JSON on stdout."""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence


def command_line(name: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser for `python -m benchmarks.name` whose help shows the defaults."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def say(line: str) -> None:
    """Print a line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def say_start(name: str) -> None:
    """Print what starts, and the load that other processes put on the machine before it."""
    say(f"{name} (load before: {os.getloadavg()[0]:.1f})")


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: its first column aligned left, the others right."""
    lines = [header, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]).rstrip(), flush=True)
