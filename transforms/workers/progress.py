"""What long work says of itself, now and then."""

import logging
import math
import time

from transforms.tables.shuffle import PARTS

log = logging.getLogger("interest-explorer")


class LogThrottle:
    """Says when it is time for another line of the log.

    Parameters
    ----------
    seconds
        Between two lines.
    at_once
        Whether the first one is not waited for.
    """

    def __init__(self, seconds: float, at_once: bool = False) -> None:
        self._seconds = seconds
        self._last = -math.inf if at_once else time.monotonic()

    def is_due(self) -> bool:
        """Say whether so long ago there was a line; if so, there is one now."""
        if time.monotonic() - self._last < self._seconds:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Note that there is a line now."""
        self._last = time.monotonic()


class PartsDone:
    """How far a worker is with the parts of a shuffle.

    Parameters
    ----------
    pipeline
        Its name.
    rows
        What is counted, such as "users".
    seconds
        Between two lines of the log.
    """

    def __init__(self, pipeline: str, rows: str, seconds: float) -> None:
        self._pipeline, self._what = pipeline, rows
        self._parts = self._rows = 0
        self._begun = time.monotonic()
        self._line = LogThrottle(seconds)

    def add_rows(self, count: int) -> None:
        """Count rows that are done, and log it now and then."""
        self._rows += count
        if self._line.is_due():
            log.info(
                "%s: %d of %d parts done, %s %s, %.0f a second",
                *(self._pipeline, self._parts, PARTS, f"{self._rows:,}", self._what),
                self._rows / (time.monotonic() - self._begun),
            )

    def add_part(self) -> None:
        """Count a part whose rows are all done."""
        self._parts += 1
