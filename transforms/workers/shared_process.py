"""One copy of a large object on a machine, in a process that all workers of a job share."""

import logging
import time
from dataclasses import dataclass, field
from typing import Any

from models.common.model_process import ModelProcess, ModelProcessLost
from transforms.errors import as_input_error

log = logging.getLogger("interest-explorer")

_ATTEMPTS = 3  # processes that a call tries


@dataclass
class SharedProcess:
    """The object that a factory makes; a lost process is replaced. See `ModelProcess`."""

    pipeline: str  # in log lines
    name: str  # of the object, in log lines
    factory: str
    arguments: dict[str, Any]
    secret: str  # only the workers of the job know it
    environment: dict[str, str] = field(default_factory=dict)
    timeout: float = 1_800.0

    def __post_init__(self) -> None:
        self._process = self._start()

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object; its ValueError or RuntimeError is raised here.

        Raises ModelProcessLost if three processes are lost.
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
                self.factory, self.arguments, self.environment, self.secret, self.timeout
            )
        seconds = time.monotonic() - begun
        log.info("%s: %s ready after %.0f s", self.pipeline, self.name, seconds)
        return process
