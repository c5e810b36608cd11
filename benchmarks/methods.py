"""The ways to find the novel interests of pairs that are compared, each in its own processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.hosting import hosted
from benchmarks.task import Answer, Task
from models.language.decoding.vllm_engine import engine_environment

Rows = list[int]  # ids of c1
Method = Callable[[Task, Sequence[Rows]], list[Answer]]  # an answer for each part of the rows

TOP_N = 20  # the default of build_novelty_table


def ours(task: Task, parts: Sequence[Rows]) -> list[Answer]:
    """Decode row by row, as `transforms.language.build_novelty_table` does."""
    arguments: dict[str, Any] = {
        "model": task.model,
        "prompts": task.prompts,
        "blocked": (),
        "n": TOP_N,
        "seed": 0,
        "engine_args": {},
    }
    c2 = np.arange(task.size)
    answers = []
    with hosted(
        "models.language.decoding.novelty_decoder:NoveltyDecoder", arguments, engine_environment()
    ) as call:
        for rows in parts:
            begun = time.monotonic()
            found = [call("decode", np.full(task.size, c1), c2)[0] for c1 in rows]
            answers.append(Answer(np.concatenate(found), time.monotonic() - begun))
    return answers


def _baseline(
    factory: str, environment: Callable[[], dict[str, str]], **arguments: object
) -> Method:
    def run(task: Task, parts: Sequence[Rows]) -> list[Answer]:
        with hosted(factory, {"task": task, **arguments}, environment()) as call:
            answers: list[Answer] = call("answer", parts)
            return answers

    return run


def _server_environment() -> dict[str, str]:
    """A server sets its processes up by itself; only its cache has the size of all others'."""
    return {"VLLM_CPU_KVCACHE_SPACE": engine_environment()["VLLM_CPU_KVCACHE_SPACE"]}


METHODS: dict[str, Method] = {
    "ours": ours,
    "beam_stock": _baseline("benchmarks.beam_stock:BeamStock", _server_environment, server_args={}),
    "beam_block32": _baseline(
        "benchmarks.beam_stock:BeamStock", _server_environment, server_args={"block-size": "32"}
    ),
    "vllm_choice": _baseline("benchmarks.vllm_choice:VllmChoice", engine_environment),
    "transformers": _baseline("benchmarks.transformers_trie:TransformersTrie", engine_environment),
    "exact": _baseline("benchmarks.exact:Exact", engine_environment),
}


def ceiling(model: str) -> float:
    """Measure the speed of matrix products with the shapes of a model, in FLOP/s."""
    with hosted(
        "benchmarks.arithmetic:MatrixProducts", {"model": model}, engine_environment()
    ) as call:
        speed: float = call("flops_per_s")
        return speed
