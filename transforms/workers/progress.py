"""Log lines about the progress of long work, at intervals."""

import logging
import math
import time

from transforms.tables.shuffle import PARTS

log = logging.getLogger("interest-explorer")


class LogThrottle:
    """Allows one log line per interval; the first one at once, or after an interval."""

    def __init__(self, seconds: float, at_once: bool = False) -> None:
        self._seconds = seconds
        self._last = -math.inf if at_once else time.monotonic()

    def is_due(self) -> bool:
        """Return whether an interval has passed since the last line; if so, start another."""
        if time.monotonic() - self._last < self._seconds:
            return False
        self.restart()
        return True

    def restart(self) -> None:
        """Start an interval now."""
        self._last = time.monotonic()


class PartsDone:
    """Logs the progress of a worker over the parts of a shuffle, in `unit` such as "users"."""

    def __init__(self, pipeline: str, unit: str, seconds: float) -> None:
        self._pipeline, self._unit = pipeline, unit
        self._parts = self._rows = 0
        self._begun = time.monotonic()
        self._line = LogThrottle(seconds)

    def add_rows(self, count: int) -> None:
        """Count finished rows, and log the progress if a line is due."""
        self._rows += count
        if self._line.is_due():
            log.info(
                "%s: %d of %d parts done, %s %s, %.0f a second",
                *(self._pipeline, self._parts, PARTS, f"{self._rows:,}", self._unit),
                self._rows / (time.monotonic() - self._begun),
            )

    def add_part(self) -> None:
        """Count a finished part."""
        self._parts += 1
