"""Loads a SavedModel in plain TensorFlow, times calls of its signatures and prints them as JSON.

Run by `benchmarks.serving` as a process of its own, without TFRS, Keras 2 or the project's models.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

NOT_NEEDED = {"tensorflow_recommenders", "tf_keras", "models"}
LONGEST = 100
LEAST_CALLS, LEAST_USERS = 10, 1000
_WARM_UP = 5  # calls
_SKEW = 3.0  # item number = items * uniform ** this: few items have most of the traffic


def histories(batch: int, items: int, seed: int) -> np.ndarray:
    """[batch, longest] item ids: lengths from 1 to 100, skewed items, "" pads."""
    rng = np.random.default_rng([batch, seed])
    lengths = rng.integers(1, LONGEST + 1, batch)
    numbers = (items * rng.random((batch, max(lengths))) ** _SKEW).astype(np.int64)
    padding = np.arange(max(lengths)) >= lengths[:, None]
    return np.where(padding, "", np.char.add("item-", numbers.astype(str))).astype(object)


def time_calls(call: Callable[[np.ndarray], object], batch: int, items: int) -> dict[str, float]:
    """Return p50_ms and p99_ms of a call, strings in and strings out, and users_per_s."""
    calls = max(LEAST_CALLS, LEAST_USERS // batch)
    times = []
    for number in range(_WARM_UP + calls):
        rows = histories(batch, items, number)
        begun = time.perf_counter()
        call(rows)
        times.append(time.perf_counter() - begun)
    times = times[_WARM_UP:]
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {"p50_ms": p50, "p99_ms": p99, "users_per_s": batch * calls / sum(times)}


def main(path: str, items: int, clusters: int, batches: list[int]) -> None:
    """Print load_s, gib (the most memory at a time) and the figures of each signature and batch."""
    import tensorflow as tf

    begun = time.perf_counter()
    signatures = tf.saved_model.load(path).signatures
    load = time.perf_counter() - begun
    if imported := NOT_NEEDED & set(sys.modules):
        raise ImportError(f"{imported} should not be needed to serve")

    def explore(name: str) -> Callable[[np.ndarray], object]:
        signature = signatures[name]
        return lambda rows: signature(history=tf.constant(rows))["item_ids"].numpy()

    def explore_sampled(rows: np.ndarray) -> object:
        seed = tf.range(len(rows), dtype=tf.int64)
        answer = signatures["explore_sampled"](history=tf.constant(rows), seed=seed)
        return answer["item_ids"].numpy()

    def recommend(rows: np.ndarray) -> object:
        asked = (np.arange(len(rows)) % clusters).astype(np.int32)[:, None]
        answer = signatures["recommend"](history=tf.constant(rows), cluster_ids=tf.constant(asked))
        return answer["item_ids"].numpy()

    calls = {name: explore(name) for name in ("explore", "explore_pooled")}
    calls |= {"explore_sampled": explore_sampled, "recommend": recommend}
    figures = {
        name: {batch: time_calls(call, batch, items) for batch in batches}
        for name, call in calls.items()
    }
    print(json.dumps({"load_s": load, "gib": peak_gib(), "figures": figures}))


def peak_gib() -> float:
    """Most memory at a time; getrusage would count what the process that started this one had."""
    kib = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kib[1]) / 2**20 if kib else float("nan")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(size) for size in sys.argv[4:]])
