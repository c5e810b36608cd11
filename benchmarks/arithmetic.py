"""The arithmetic that a table needs, and how fast the machine can do any."""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

from benchmarks.task import Answer, Task
from models.language.prompt import description_trie

_ROWS = 2048  # of the matrix products: as many tokens as an engine takes in a step
_REPEATS = 20
# The layers that engines compute as one product.
_FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"}
_HEADS = ("embed_tokens", "lm_head")


@dataclass(frozen=True)
class ModelShape:
    """The matrices of a language model.

    Attributes
    ----------
    layer
        (out, in) of the products of one layer, fused as engines fuse them.
    flops_per_token
        Of all layers.
    """

    layer: tuple[tuple[int, int], ...]
    flops_per_token: int


def model_shape(model: str) -> ModelShape:
    """Read the shapes out of a Hugging Face folder with its weights in one file of safetensors."""
    with (Path(model) / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    products: dict[str, list[int]] = {}
    for name, shape in shapes.items():
        if ".layers.0." in name and len(shape) == 2:
            short = name.split(".")[-2]
            out, _ = products.setdefault(_FUSED.get(short, short), [0, shape[1]])
            products[_FUSED.get(short, short)][0] = out + shape[0]
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    heads = [size for name, size in sizes.items() if name.split(".")[-2] in _HEADS]
    return ModelShape(
        tuple((out, in_) for out, in_ in products.values()),
        2 * (sum(sizes.values()) - sum(heads)),
    )


class MatrixProducts:
    """Matrix products with the shapes of a model, in bfloat16 on all cores.

    Parameters
    ----------
    model
        Local Hugging Face folder.
    """

    def __init__(self, model: str) -> None:
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self._pairs = [
            (
                torch.randn(_ROWS, in_, dtype=torch.bfloat16),
                torch.randn(out, in_, dtype=torch.bfloat16),
            )
            for out, in_ in model_shape(model).layer
        ]

    def flops_per_s(self) -> float:
        """Return the speed over all products of a layer, the median of several runs."""
        import torch

        seconds = []
        with torch.inference_mode():
            for _ in range(_REPEATS + 1):
                begun = time.perf_counter()
                for left, right in self._pairs:
                    torch.nn.functional.linear(left, right)
                seconds.append(time.perf_counter() - begun)
        flops = sum(2 * left.shape[0] * right.numel() for left, right in self._pairs)
        return flops / statistics.median(seconds[1:])  # the first one chooses its kernels


class NeededWork:
    """What no method can save to find given answers.

    Every token that prompts share is read once. A pair is asked at each branch of the trie of
    descriptions on the way to one of its answers, where more than one continuation is allowed:
    its probability depends on the model there. Branches that had to be asked only to be ruled out
    are not counted, nor are attention and the output head, so this is less than any method does.

    Parameters
    ----------
    task
    """

    def __init__(self, task: Task) -> None:
        from models.language.language_model import load_tokenizer

        self._task, self._shape = task, model_shape(task.model)
        self._tokenizer = load_tokenizer(task.model)
        self._trie = description_trie(self._tokenizer, task.prompts)

    def flops(self, rows: Sequence[int], answer: Answer) -> float:
        """Return the floating point operations that the answer for some rows takes."""
        pairs = self._task.pairs(rows)
        prompts = self._tokenizer([self._task.prompts.render(*pair) for pair in pairs])["input_ids"]
        excluded = _marked(np.array(pairs), self._task.size)
        answered = _marked(answer.clusters, self._task.size) & ~excluded
        paths: list[list[tuple[int, ...]]] = [[] for _ in pairs]
        for branch in self._trie.branches:
            below = answered[:, np.concatenate(branch.clusters)].any(axis=1)
            leads = [(~excluded[:, clusters]).any(axis=1) for clusters in branch.clusters]
            for pair in np.flatnonzero(below & (np.sum(leads, axis=0) > 1)).tolist():
                paths[pair].append(branch.path)
        tokens = distinct_tokens(prompts) + sum(map(distinct_tokens, paths))
        return tokens * self._shape.flops_per_token


def _marked(clusters: np.ndarray, size: int) -> np.ndarray:
    """Return where each row of ids has a cluster, [rows, size] bool; -1 is none."""
    marked = np.zeros((len(clusters), size + 1), bool)
    np.put_along_axis(marked, clusters % (size + 1), True, axis=1)  # -1 becomes the last column
    return marked[:, :size]


def distinct_tokens(texts: Sequence[Sequence[int]]) -> int:
    """Count the tokens of texts, where what texts begin with alike counts once.

    Examples
    --------
    >>> distinct_tokens([(1, 2, 3), (1, 2, 4), (1, 2), ()])
    4
    """
    count = 0
    last: tuple[int, ...] = ()
    for text in sorted(map(tuple, texts)):
        same = (one == other for one, other in zip(text, last, strict=False))
        count += len(text) - sum(takewhile(bool, same))
        last = text
    return count
