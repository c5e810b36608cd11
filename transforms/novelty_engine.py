"""The engine behind the novelty table: one a machine, and a new one where it is lost."""

import json
import logging
import time
from dataclasses import dataclass

import numpy as np

from models.child_process import ChildLost, ChildProcess
from models.prompt import Prompts
from models.vllm_engine import engine_environment
from transforms.errors import as_input_error
from transforms.folders import local_copy

log = logging.getLogger("interest-explorer")

_ATTEMPTS = 3  # at a unit, each with another engine


@dataclass(frozen=True)
class Policy:
    """What decides the table: see `models.novelty_decoder.NoveltyDecoder`.

    Attributes
    ----------
    timeout
        Seconds that a unit may take before the engine counts as hung. Decides nothing.
    """

    model: str
    prompts: Prompts
    blocked: tuple[int, ...]
    n: int
    seed: int
    engine_args: str  # JSON
    timeout: float


class NoveltyEngine:
    """A decoder in a process that all workers of a job on this machine share.

    Parameters
    ----------
    policy
        What it decides by.
    secret
        Known to the workers of the job alone.
    """

    def __init__(self, policy: Policy, secret: str) -> None:
        self._policy, self._secret = policy, secret
        self._process = self._start()

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode pairs, see `NoveltyDecoder.decode`; a lost engine is replaced.

        Raises
        ------
        ChildLost
            If engine after engine is lost.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._process.call("decode", c1, c2)
            except ChildLost as error:
                log.warning("build_novelty_table: %s", error)
                self._process = self._start()
        return self._process.call("decode", c1, c2)

    def _start(self) -> ChildProcess:
        policy = self._policy
        arguments = {
            "model": local_copy(policy.model),
            "prompts": policy.prompts,
            "blocked": policy.blocked,
            "n": policy.n,
            "seed": policy.seed,
            "engine_args": json.loads(policy.engine_args),
        }
        log.info("build_novelty_table: starting the engine")
        begun = time.monotonic()
        with as_input_error():
            process = ChildProcess(
                "models.novelty_decoder:NoveltyDecoder",
                arguments,
                engine_environment(),
                shared_as=self._secret,
                timeout=policy.timeout,
            )
        log.info("build_novelty_table: engine ready after %.0f s", time.monotonic() - begun)
        return process
