"""The engine behind the novelty table: one a machine."""

import json
from dataclasses import dataclass

import numpy as np

from models.language.decoding.vllm_engine import engine_environment
from models.language.prompt import Prompts
from transforms.storage.folders import local_copy
from transforms.workers.shared_process import SharedProcess


@dataclass(frozen=True)
class LanguagePolicy:
    """What decides the table: see `models.language.decoding.novelty_decoder.NoveltyDecoder`.

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

    def __init__(self, policy: LanguagePolicy, secret: str) -> None:
        self._process = SharedProcess(
            "build_novelty_table",
            "engine",
            "models.language.decoding.novelty_decoder:NoveltyDecoder",
            {
                "model": local_copy(policy.model),
                "prompts": policy.prompts,
                "blocked": policy.blocked,
                "n": policy.n,
                "seed": policy.seed,
                "engine_args": json.loads(policy.engine_args),
            },
            secret,
            engine_environment(),
            policy.timeout,
        )

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode pairs, see `NoveltyDecoder.decode`; a lost engine is replaced.

        Raises
        ------
        ModelProcessLost
            If engine after engine is lost.
        """
        return self._process.call("decode", c1, c2)
