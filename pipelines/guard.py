"""What a program says when something goes wrong: one line where the user can mend it."""

import errno
import logging
import os
import re
import sys
from collections.abc import Callable

from transforms.errors import InputError

log = logging.getLogger("interest-explorer")

DONE, FAILED, BAD_INPUT = 0, 1, 2  # exit codes; 1 is also that of an uncaught exception

_WHERE = r" \[while running '.*"  # what Beam adds to a worker's error
# What is wrong with a disk rather than with the program, by its name for programs.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


def guarded(work: Callable[[], None]) -> int:
    """Run, turn what goes wrong into a line and an exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_news)
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[handler],
    )
    log.setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it complains of GPUs that are not there
    try:
        work()
    except Exception as error:
        if (message := _disk_error(error)) is not None:
            print(f"error: {message}", file=sys.stderr)
            return FAILED
        message = _input_error(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return BAD_INPUT
    return DONE


def _disk_error(error: Exception) -> str | None:
    """Return what is wrong with a disk, in one line, also where a worker met it."""
    for number, text in re.findall(r"\w*Error: \[Errno (\d+)\] (.*)", f"OSError: {error}"):
        if int(number) in _DISK_ERRORS:
            text = re.sub(_WHERE, "", text)
            return f"{text}; nothing is lost: mend that and start the same command again"
    return None


def _is_news(record: logging.LogRecord) -> bool:
    # A worker logs an error with its traceback; the user gets these as one line.
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, InputError) and (
        not isinstance(error, OSError) or _disk_error(error) is None
    )


def _input_error(error: Exception) -> str | None:
    """Return what the user can mend, in one line, also where a worker raised it."""
    message = str(error)
    if not isinstance(error, InputError):
        if missing := re.findall(r"ModuleNotFoundError: No module named '([^'.]*)", message):
            return f"{missing[-1]} is not installed; `make setup` installs all that a stage needs"
        found = re.findall(r"InputError: (.*)", message)
        if not found:
            return None
        message = found[-1]
    return re.sub(_WHERE, "", message)
