"""One copy of something large a machine: in a process that all workers of a job there share."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from models.common.model_process import ModelProcess, ModelProcessLost
from transforms.errors import as_input_error

log = logging.getLogger("interest-explorer")

_ATTEMPTS = 3  # at a call, each with another process


@dataclass
class SharedProcess:
    """The object that a factory makes, in a process that is replaced where it is lost.

    Attributes
    ----------
    pipeline, name
        Who has it and what it is called, in log lines.
    factory, arguments, environment, timeout
        As `ModelProcess` takes them.
    secret
        Known to the workers of the job alone.
    """

    pipeline: str
    name: str
    factory: str
    arguments: dict[str, Any]
    secret: str
    environment: dict[str, str] = field(default_factory=dict)
    timeout: float = 1_800.0

    def __post_init__(self) -> None:
        self._process = self._start()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object; a lost process is replaced.

        Raises
        ------
        ValueError, RuntimeError
            Whatever the method raises.
        ModelProcessLost
            If process after process is lost.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._process.call(method, *arguments)
            except ModelProcessLost as error:
                log.warning("%s: %s", self.pipeline, error)
                self._process = self._start()
        return self._process.call(method, *arguments)

    def _start(self) -> ModelProcess:
        log.info("%s: starting the %s", self.pipeline, self.name)
        begun = time.monotonic()
        with as_input_error():
            process = ModelProcess(
                self.factory,
                self.arguments,
                self.environment,
                shared_as=self.secret,
                timeout=self.timeout,
            )
        seconds = time.monotonic() - begun
        log.info("%s: %s ready after %.0f s", self.pipeline, self.name, seconds)
        return process
