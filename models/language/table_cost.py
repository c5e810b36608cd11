"""What a novelty table takes, before it is built: questions, tokens, time and money."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from models.language.arithmetic import has_bfloat16
from models.language.description_trie import Branch, DescriptionTrie
from models.language.machines import PRICES, Machine, machine_type
from models.language.prompt import BLOCK_TOKENS, Prompts, description_trie

# Of the speed of matrix products; benchmarks/novelty_table.py measures it.
ENGINE_SHARE = 0.65
ENGINE_START_SECONDS = 20.0  # on two cores, with a small model

_SAMPLED_PROMPTS = 4096  # tables up to this are tokenised whole
_ROWS = 2048  # of the matrix products: as many tokens as an engine takes in a step
_MEASURED_SECONDS = 1.0
# The layers that engines compute as one product.
_FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"}


@dataclass(frozen=True)
class Questions:
    """Questions to the model, over all pairs of a table; what is expected need not be whole.

    Attributes
    ----------
    count : float
    tokens : float
        Of all questions.
    computed : float
        Tokens of all questions that are not in the prefix cache.
    """

    count: float = 0
    tokens: float = 0
    computed: float = 0

    def __add__(self, other: Questions) -> Questions:
        return Questions(
            self.count + other.count, self.tokens + other.tokens, self.computed + other.computed
        )

    def __mul__(self, factor: float) -> Questions:
        return Questions(self.count * factor, self.tokens * factor, self.computed * factor)


@dataclass(frozen=True)
class Work:
    """What the pairs of a table ask the model.

    All ask at the first branch of the descriptions' trie; which others they ask at depends on what
    the model answers.

    Attributes
    ----------
    pairs : int
    first : Questions
        At the first branch.
    deeper : Questions
        At the branches on the way to n clusters, if any n are as likely as any others.
    every : Questions
        At every other branch: more than this they can't be.
    """

    pairs: int
    first: Questions
    deeper: Questions
    every: Questions

    @property
    def likely(self) -> Questions:
        """What is expected."""
        return self.first + self.deeper

    @property
    def most(self) -> Questions:
        """What can't be exceeded."""
        return self.first + self.every

    @property
    def cached_share(self) -> float:
        """Which part of the expected tokens the prefix cache saves."""
        return 1 - self.likely.computed / self.likely.tokens if self.likely.tokens else 0.0


@dataclass(frozen=True)
class ModelSize:
    """The arithmetic of a language model.

    Attributes
    ----------
    layer_parameters : int
        Of all layers; all experts of a mixture count.
    attention_width : int
        Of all heads of all layers.
    products : tuple of (int, int)
        Outputs and inputs of the matrix products of a layer, fused as engines fuse them.
    dtype : str
        That the engine computes in, as PyTorch calls it.
    """

    layer_parameters: int
    attention_width: int
    products: tuple[tuple[int, int], ...]
    dtype: str


@dataclass(frozen=True)
class Estimate:
    """What a table takes on one machine.

    Attributes
    ----------
    machine : Machine or None
        None for this one.
    tflops : float
        Matrix products in 10^12 floating point operations a second: the peak of a machine type, or
        measured on this one.
    seconds, seconds_at_most : float
        Without the start of the engine; expected, and if every branch is asked.
    dollars, dollars_at_most : float or None
        With the start of the engine; None for this machine.
    """

    machine: Machine | None
    tflops: float
    seconds: float
    seconds_at_most: float
    dollars: float | None
    dollars_at_most: float | None


@dataclass(frozen=True, eq=False)
class _Row:
    """The prompts of one c1: their common start and, for each c2, the rest."""

    c1: int
    start: int  # tokens
    rests: list[list[int]]


def count_work(
    tokenizer: Any, prompts: Prompts, blocked: Sequence[int], n: int, row_parts: Sequence[range]
) -> Work:
    """Count what the table of M clusters asks the model.

    Of a large table only 3 M prompts are tokenised, and the others put together from their parts.
    If the tokenizer does not cut between these, some rows of the table stand for all.

    Parameters
    ----------
    tokenizer
        Of the language model.
    prompts
        Of all pairs of the M clusters.
    blocked
        Ids of the clusters that are never an answer.
    n
        How many answers per pair.
    row_parts
        The c2 that the decoder is given at a time; then it forgets what it has cached.

    Raises
    ------
    ValueError
        If the tokenizer can't tell two descriptions apart, or merges prompt and description.
    """
    size = len(prompts.descriptions)
    trie = description_trie(tokenizer, prompts)
    allowed = np.ones(size, bool)
    allowed[list(blocked)] = False
    branches, counts = _open_branches(trie, allowed)
    if not branches:
        return Work(size * size, Questions(), Questions(), Questions())
    top = branches[0]  # all that is allowed lies below it
    rows = _rows(tokenizer, prompts)
    asked = _first_asked(top, allowed, [row.c1 for row in rows])  # [rows, M]

    first = Questions()
    tokens = 0  # of the first question of all pairs
    overhangs = np.zeros(BLOCK_TOKENS, np.int64)  # pairs, by tokens after their last whole block
    known: dict[tuple[int, int, int, bytes], int] = {}
    for row, row_asked in zip(rows, asked, strict=True):
        lengths = np.array([len(rest) for rest in row.rests]) + row.start + len(top.path)  # [M]
        tokens += int(lengths.sum())
        overhangs += np.bincount(lengths % BLOCK_TOKENS, minlength=BLOCK_TOKENS)
        over = row.start % BLOCK_TOKENS
        for part in row_parts:
            low, high = part.start, part.stop
            asks = row_asked[low:high]
            if not asks.any():
                continue
            key = (id(row.rests), over, low, asks.tobytes())
            if key not in known:
                ends = [row.rests[low + place] for place in np.flatnonzero(asks).tolist()]
                known[key] = _computed(over, [[*end, *top.path] for end in ends])
            length = int(lengths[low:high][asks].sum())
            first += Questions(int(asks.sum()), length, row.start - over + known[key])
    reach = [_chance(n, int(counts[0].sum()), int(below.sum())) for below in counts[1:]]
    scale = size / len(rows)
    return Work(
        size * size,
        first * scale,
        _deeper(branches, np.array(reach), tokens, overhangs) * scale,
        _deeper(branches, np.ones(len(reach)), tokens, overhangs) * scale,
    )


def _open_branches(
    trie: DescriptionTrie, allowed: np.ndarray
) -> tuple[list[Branch], list[np.ndarray]]:
    """Return the branches with a choice, and how many allowed clusters their tokens lead to."""
    counts = [count[0] for count in trie.allowed_counts(~allowed[None])]
    choice = [index for index, count in enumerate(counts) if (count > 0).sum() > 1]
    return [trie.branches[index] for index in choice], [counts[index] for index in choice]


def _rows(tokenizer: Any, prompts: Prompts) -> list[_Row]:
    """Tokenise the prompts of all rows of the table, or of some in equal distances."""
    size = len(prompts.descriptions)

    def tokenised(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
        rows: list[list[int]] = tokenizer([prompts.render(*pair) for pair in pairs])["input_ids"]
        return rows

    def whole(c1: int) -> _Row:
        ids = tokenised([(c1, c2) for c2 in range(size)])
        low, high = min(ids), max(ids)  # they agree in what all agree in
        same = takewhile(bool, (a == b for a, b in zip(low, high, strict=False)))
        start = min(sum(same), min(map(len, ids)) - 1)  # what is left always has a token
        return _Row(c1, start, [row[start:] for row in ids])

    count = min(size, max(1, _SAMPLED_PROMPTS // size))
    if count < size:
        rests = whole(0).rests
        columns = tokenised([(c1, 0) for c1 in range(size)])
        starts = [row[: -len(rests[0])] for row in columns]
        crossed = tokenised([(c1, size - 1 - c1) for c1 in range(size)])
        if columns == [start + rests[0] for start in starts] and crossed == [
            start + rest for start, rest in zip(starts, reversed(rests), strict=True)
        ]:
            return [_Row(c1, len(start), rests) for c1, start in enumerate(starts)]
    return [whole(size * place // count) for place in range(count)]


def _first_asked(top: Branch, allowed: np.ndarray, rows: Sequence[int]) -> np.ndarray:
    """Return which pairs have a choice at the first branch, [rows, M]: c1 and c2 are no answers."""
    counts = np.array([int(allowed[clusters].sum()) for clusters in top.clusters])  # [k]
    token = np.full(len(allowed), -1)  # [M] of the branch, -1 where it leads to no answer
    for index, clusters in enumerate(top.clusters):
        token[clusters] = np.where(allowed[clusters], index, -1)
    behind = np.where(token < 0, 0, counts[token])  # [M]
    c1 = np.array(rows)[:, None]
    other = c1 != np.arange(len(allowed))  # [rows, M]
    closed = (behind[c1] == 1).astype(np.int8) + ((behind == 1) & other)
    closed += (behind == 2) & (token == token[c1]) & other
    asked: np.ndarray = (counts > 0).sum() - closed > 1
    return asked


def _computed(over: int, texts: Sequence[Sequence[int]]) -> int:
    """Count the tokens that a cache of blocks leaves to compute, of texts with a common start.

    Of the start only what lies `over` its last whole block counts. The last token is always
    computed.
    """
    seen: set[tuple[int, ...]] = set()
    computed = 0
    for text in texts:
        length = over + len(text)
        blocks = [
            tuple(text[: end - over]) for end in range(BLOCK_TOKENS, length + 1, BLOCK_TOKENS)
        ]
        usable = blocks[: (length - 1) // BLOCK_TOKENS]
        found = next((i for i, block in enumerate(usable) if block not in seen), len(usable))
        computed += length - BLOCK_TOKENS * found
        seen.update(blocks)
    return computed


def _chance(n: int, clusters: int, below: int) -> float:
    """Return how probable it is that at least one of n different clusters lies below a branch."""
    if clusters - below < n:
        return 1.0
    ways = [
        math.lgamma(total + 1) - math.lgamma(total - n + 1)
        for total in (clusters, clusters - below)
    ]
    return -math.expm1(ways[1] - ways[0])


def _deeper(
    branches: Sequence[Branch], reach: np.ndarray, tokens: int, overhangs: np.ndarray
) -> Questions:
    """Count the questions below the first branch.

    The cache has what the branch before has asked; that it may have more from a branch beside it
    is left out.

    Parameters
    ----------
    branches
        The first one, and those that questions are at.
    reach
        [branches - 1] how probable it is that a pair asks there.
    tokens
        Of the first question of all pairs.
    overhangs
        [BLOCK_TOKENS] pairs, by the tokens of their first question after its last whole block.
    """
    top = len(branches[0].path)
    paths = {branch.path for branch in branches}
    further, before = np.zeros((2, len(reach)), np.int64)
    for index, branch in enumerate(branches[1:]):
        further[index] = len(branch.path) - top
        depths = range(len(branch.path) - 1, top - 1, -1)
        before[index] = next(depth for depth in depths if branch.path[:depth] in paths) - top
    over = np.arange(BLOCK_TOKENS)[:, None]
    cached = (over + before) // BLOCK_TOKENS * BLOCK_TOKENS
    computed = over + further - cached  # [overhangs, branches]
    pairs = int(overhangs.sum())
    return Questions(
        pairs * float(reach.sum()),
        tokens * float(reach.sum()) + pairs * float(further @ reach),
        float(overhangs @ computed @ reach),
    )


def model_size(folder: str) -> ModelSize:
    """Read what a language model computes.

    Parameters
    ----------
    folder
        Local Hugging Face folder.

    Raises
    ------
    ValueError
        If it has no weights in safetensors.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder).get_text_config()
    shapes: dict[str, list[int]] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes |= {name: at["shape"] for name, at in header.items() if name != "__metadata__"}
    if not shapes:
        raise ValueError(f"the folder {folder!r} has no .safetensors; save the model in them")
    layers = {
        name: shape
        for name, shape in shapes.items()
        if config.vocab_size not in shape and not re.search("emb|wpe", name)
    }
    products: dict[str, tuple[int, int]] = {}
    for name, shape in layers.items():
        number = re.search(r"\.(\d+)\.", name)
        if len(shape) == 2 and number is not None and number[1] == "0":
            part = name.split(".")[-2]
            key = name.replace(part, _FUSED.get(part, part))
            products[key] = (products.get(key, (0, 0))[0] + shape[0], shape[1])
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelSize(
        layer_parameters=sum(map(math.prod, layers.values())),
        attention_width=config.num_hidden_layers * heads * width,
        products=tuple(products.values()),
        dtype=str(config.dtype or "float32").removeprefix("torch.")
        if has_bfloat16()
        else "float32",
    )


def flops(questions: Questions, size: ModelSize) -> float:
    """Return the floating point operations of some questions.

    Each computed token attends to as many tokens as a question has on average, which is a little
    more than it does. The few tokens' rows of the output head don't count.
    """
    if not questions.count:
        return 0.0
    attention = 4 * size.attention_width * questions.tokens / questions.count
    return questions.computed * (2 * size.layer_parameters + attention)


def product_tflops(size: ModelSize) -> float:
    """Measure how fast this machine computes the matrix products of a model, on all its cores."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, size.dtype)
    factors = [
        (
            torch.randn(_ROWS, inputs, dtype=dtype, device=device),
            torch.randn(outputs, inputs, dtype=dtype, device=device),
        )
        for outputs, inputs in size.products
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    seconds: list[float] = []
    end = time.perf_counter() + _MEASURED_SECONDS
    with torch.inference_mode():
        while time.perf_counter() < end or len(seconds) < 2:
            begun = time.perf_counter()
            for left, right in factors:
                torch.nn.functional.linear(left, right)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)
    torch.set_num_threads(threads)
    operations = sum(2 * _ROWS * outputs * inputs for outputs, inputs in size.products)
    return operations / statistics.median(seconds[1:]) / 1e12  # the first one chooses its kernels


def estimate(work: Work, size: ModelSize, machine: str | None) -> Estimate:
    """Estimate what a table takes on one machine.

    Parameters
    ----------
    machine
        The name of a machine type; None for this machine, which is measured for a second.

    Raises
    ------
    ValueError
        If the machine type is not known.
    """
    rented = None if machine is None else machine_type(machine)
    tflops = product_tflops(size) if rented is None else rented.tflops
    likely, most = (
        flops(questions, size) / (ENGINE_SHARE * tflops * 1e12)
        for questions in (work.likely, work.most)
    )
    if rented is None:
        return Estimate(None, tflops, likely, most, None, None)
    dollars = rented.dollars_per_hour / 3600
    return Estimate(
        rented,
        tflops,
        likely,
        most,
        dollars * (likely + ENGINE_START_SECONDS),
        dollars * (most + ENGINE_START_SECONDS),
    )


def report(work: Work, size: ModelSize, result: Estimate) -> str:
    """Return the estimate for people."""
    machine, likely, most = result.machine, work.likely, work.most
    share = f"the engine reaches {ENGINE_SHARE:.0%} of {result.tflops:,.3g} TFLOP/s"
    lines = {
        "pairs": f"{work.pairs:,}",
        "questions": _range(likely.count, most.count),
        "prompt tokens": _range(likely.tokens, most.tokens),
        "of these cached": f"{work.cached_share:.1%}",
        "of these computed": _range(likely.computed, most.computed),
        "parameters": f"{size.layer_parameters:,} in the layers",
        "machine": "this one" if machine is None else f"{machine.name}: {machine.chip}",
        "start of the engine": _duration(ENGINE_START_SECONDS),
        "time": f"{_duration(result.seconds)}, at most {_duration(result.seconds_at_most)}",
    }
    if machine is None:
        share += ", as fast as matrices were multiplied here just now"
    else:
        lines["cost"] = f"{_money(result.dollars)}, at most {_money(result.dollars_at_most)}"
        share += ", the machine's peak (a small model reaches less of a GPU's)"
        share += f"; ${machine.dollars_per_hour:.3f} an hour, {PRICES}"
    width = max(map(len, lines)) + 2
    table = [name.ljust(width) + value for name, value in lines.items()]
    assumed = (
        "Assumed: a pair's best clusters are any, so that some branches of their descriptions need "
        f"not be asked; at most, all are; {share}."
    )
    return "\n".join([*table, assumed])


def _range(likely: float, most: float) -> str:
    return f"{likely:,.0f}, at most {most:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h"


def _money(dollars: float | None) -> str:
    return "no price" if dollars is None else f"${max(dollars, 0.01):,.2f}"
