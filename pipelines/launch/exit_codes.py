"""Runs a pipeline from a command line: how it ends, as an exit code and at most one line.

0: done; 1: failed, start the same command again; 2: the input or a flag is to be corrected; 130:
interrupted. An error that nobody can explain has a traceback, and 1.
"""

import logging
import os
import re
import sys
from collections.abc import Callable

from pipelines.launch.error_messages import AGAIN, explain

log = logging.getLogger("interest-explorer")

DONE, INTERRUPTED = 0, 130  # the second as a shell says it of Ctrl-C


class _PrintableFormatter(logging.Formatter):
    """Formats records whose texts may be of the data."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def printable(text: str) -> str:
    """Replace invisible characters: on a terminal, those of the data could hide what is printed."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\ufffd" for char in text)


def run_guarded(work: Callable[[], None]) -> int:
    """Run `work`; print a known error as one line and return the exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_news)
    handler.setFormatter(_PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    log.setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # else it warns that there is no GPU
    try:
        work()
    except (Exception, KeyboardInterrupt) as error:
        if _is_interrupt(error):
            print(f"interrupted; no work is lost: {AGAIN} to go on", file=sys.stderr)
            return INTERRUPTED
        explained = explain(error)
        if explained is None:
            raise
        code, message = explained
        # A text of the data begins no line; the lines of a list are indented.
        message = re.sub(r"\s*[\r\n]+(?!  )", " ", message)
        print(f"error: {printable(message)}", file=sys.stderr)
        return code
    return DONE


def _is_news(record: logging.LogRecord) -> bool:
    if str(record.msg).startswith("If direct_num_workers is not equal to 1"):
        return False  # see pipelines.launch.runner
    # A worker logs an error with its traceback; the user gets these as one line.
    error = record.exc_info[1] if record.exc_info else None
    return error is None or (explain(error) is None and not _is_interrupt(error))


def _is_interrupt(error: BaseException) -> bool:
    """Say whether the user pressed Ctrl-C, also while a worker of this process had control."""
    return isinstance(error, KeyboardInterrupt) or "KeyboardInterrupt" in str(error)
