"""The engine of the novelty table, one on each machine."""

import json
from dataclasses import dataclass

import numpy as np

from models.language.decoding.vllm_engine import engine_environment
from models.language.prompt import Prompts
from transforms.storage.folders import local_copy
from transforms.workers.shared_process import SharedProcess


@dataclass(frozen=True)
class NoveltyEngineSpec:
    """The arguments of `models.language.decoding.novelty_decoder.NoveltyDecoder`."""

    model: str  # folder, local or gs://
    prompts: Prompts
    blocked: tuple[int, ...]
    n: int
    seed: int
    engine_args: str  # JSON
    timeout: float  # seconds for the pairs of a unit; no part of the result


class NoveltyEngine:
    """A decoder in a process that all workers of a job on this machine share by its secret."""

    def __init__(self, spec: NoveltyEngineSpec, secret: str) -> None:
        self._process = SharedProcess(
            "build_novelty_table",
            "engine",
            "models.language.decoding.novelty_decoder:NoveltyDecoder",
            {
                "model": local_copy(spec.model),
                "prompts": spec.prompts,
                "blocked": spec.blocked,
                "n": spec.n,
                "seed": spec.seed,
                "engine_args": json.loads(spec.engine_args),
            },
            secret,
            engine_environment(),
            spec.timeout,
        )

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode pairs as `NoveltyDecoder.decode`; ModelProcessLost if three engines are lost."""
        return self._process.call("decode", c1, c2)
