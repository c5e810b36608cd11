"""The compared ways to find the novel interests of pairs, each in its own processes."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.novelty_table.child_process import hosted
from benchmarks.novelty_table.task import Answer, Task
from models.language.decoding.vllm_engine import engine_environment

Rows = list[int]  # ids of c1
Method = Callable[[Task, Sequence[Rows]], list[Answer]]  # an answer for each part of the rows

CLUSTERS_PER_PAIR = 20  # the default of build_novelty_table
_ROOM = "benchmarks.novelty_table"


def ours(task: Task, parts: Sequence[Rows]) -> list[Answer]:
    """Decode row by row, like `transforms.language.build_novelty_table`."""
    arguments: dict[str, Any] = {
        "model": task.model,
        "prompts": task.prompts,
        "blocked": (),
        "n": CLUSTERS_PER_PAIR,
        "seed": 0,
        "engine_args": {},
    }
    factory = "models.language.decoding.novelty_decoder:NoveltyDecoder"
    c2 = np.arange(task.size)
    with hosted(factory, arguments, engine_environment()) as call:

        def decode(rows: Rows) -> np.ndarray:
            return np.concatenate([call("decode", np.full(task.size, c1), c2)[0] for c1 in rows])

        return [_timed(decode, rows) for rows in parts]


def _in_process(factory: str) -> Method:
    """Return a method whose object answers the pairs of each part."""

    def run(task: Task, parts: Sequence[Rows]) -> list[Answer]:
        with hosted(f"{_ROOM}.{factory}", {"task": task}, engine_environment()) as call:

            def answer(rows: Rows) -> np.ndarray:
                clusters: np.ndarray = call("answer", task.pairs(rows))
                return clusters

            return [_timed(answer, rows) for rows in parts]

    return run


def _timed(answer: Callable[[Rows], np.ndarray], rows: Rows) -> Answer:
    begun = time.monotonic()
    clusters = answer(rows)
    return Answer(clusters, time.monotonic() - begun)


def _beam(server_args: dict[str, str]) -> Method:
    def run(task: Task, parts: Sequence[Rows]) -> list[Answer]:
        arguments = {"task": task, "server_args": server_args}
        # The server configures its processes itself; only its cache has the size of all others.
        cache = "VLLM_CPU_KVCACHE_SPACE"
        environment = {cache: engine_environment()[cache]}
        with hosted(f"{_ROOM}.beam_stock:BeamStock", arguments, environment) as call:
            answers: list[Answer] = call("answer", parts)
            return answers

    return run


METHODS: dict[str, Method] = {
    "ours": ours,
    "beam_stock": _beam({}),
    "beam_block32": _beam({"block-size": "32"}),
    "vllm_choice": _in_process("vllm_choice:VllmChoice"),
    "transformers": _in_process("transformers_trie:TransformersTrie"),
    "exact": _in_process("exact:Exact"),
}


def peak_flops(model: str) -> float:
    """Measure the speed of matrix products with the shapes of a model, in FLOP/s."""
    factory = f"{_ROOM}.necessary_work:MatrixProducts"
    with hosted(factory, {"model": model}, engine_environment()) as call:
        speed: float = call("flops_per_s")
        return speed
