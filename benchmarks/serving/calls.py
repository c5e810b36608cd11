"""Loads a SavedModel in plain TensorFlow, times calls of its signatures and prints them as JSON.

`benchmarks.serving` runs it as a process of its own, without TFRS, Keras 2 or the project's models.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.common.processes import peak_memory_gib

NOT_NEEDED = {"tensorflow_recommenders", "tf_keras", "models"}
LONGEST = 100
LEAST_CALLS, LEAST_USERS = 10, 1000
_WARM_UP = 5  # calls
_SKEW = 3.0  # item number = items * uniform ** this: few items have most of the traffic


def random_histories(batch: int, items: int, seed: int) -> np.ndarray:
    """Return item ids [batch, longest], of lengths from 1 to 100 and skewed items; "" pads."""
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
        histories = random_histories(batch, items, number)
        begun = time.perf_counter()
        call(histories)
        times.append(time.perf_counter() - begun)
    times = times[_WARM_UP:]
    p50, p99 = np.percentile(times, [50, 99]) * 1e3
    return {"p50_ms": p50, "p99_ms": p99, "users_per_s": batch * calls / sum(times)}


def main(path: str, items: int, clusters: int, batches: list[int]) -> None:
    """Print load_s, gib (peak memory) and the figures of each signature and batch size."""
    import tensorflow as tf

    begun = time.perf_counter()
    signatures = tf.saved_model.load(path).signatures
    load = time.perf_counter() - begun
    if imported := NOT_NEEDED & set(sys.modules):
        raise ImportError(f"{imported} should not be needed to serve")

    def more_inputs(name: str, batch: int) -> dict[str, tf.Tensor]:
        if name == "explore_sampled":
            return {"seed": tf.range(batch, dtype=tf.int64)}
        if name == "recommend":
            asked = (np.arange(batch) % clusters).astype(np.int32)[:, None]
            return {"cluster_ids": tf.constant(asked)}
        return {}

    def call(name: str, histories: np.ndarray) -> object:
        inputs = more_inputs(name, len(histories))
        return signatures[name](history=tf.constant(histories), **inputs)["item_ids"].numpy()

    figures = {
        name: {batch: time_calls(partial(call, name), batch, items) for batch in batches}
        for name in ("explore_aligned", "explore", "explore_pooled", "explore_sampled", "recommend")
    }
    print(json.dumps({"load_s": load, "gib": peak_memory_gib(), "figures": figures}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), [int(size) for size in sys.argv[4:]])
