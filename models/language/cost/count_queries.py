"""Counts the queries to the language model that a novelty table will take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from models.language.description_trie import Branch, DescriptionTrie
from models.language.prompt import BLOCK_TOKENS, Prompts, description_trie

_SAMPLED_PROMPTS = 4096  # tables up to this are tokenised whole


@dataclass(frozen=True)
class QueryCounts:
    """Queries of all pairs of a table; expected values are fractional."""

    count: float = 0
    tokens: float = 0
    computed: float = 0  # tokens that are not in the prefix cache

    def __add__(self, other: QueryCounts) -> QueryCounts:
        return QueryCounts(
            self.count + other.count, self.tokens + other.tokens, self.computed + other.computed
        )

    def __mul__(self, factor: float) -> QueryCounts:
        return QueryCounts(self.count * factor, self.tokens * factor, self.computed * factor)


@dataclass(frozen=True)
class Work:
    """The queries of the pairs of a table.

    All pairs ask at the first branch of the descriptions' trie. The answers decide about others.
    """

    pairs: int
    first: QueryCounts  # at the first branch
    deeper: QueryCounts  # expected at other branches, if any n clusters are equally likely answers
    every: QueryCounts  # at all other branches

    @property
    def likely(self) -> QueryCounts:
        """The expected queries."""
        return self.first + self.deeper

    @property
    def most(self) -> QueryCounts:
        """The upper bound."""
        return self.first + self.every

    @property
    def cached_share(self) -> float:
        """The share of the expected tokens in the prefix cache."""
        return 1 - self.likely.computed / self.likely.tokens if self.likely.tokens else 0.0


@dataclass(frozen=True, eq=False)
class _Row:
    """The prompts of one c1: the common start and the rest for each c2."""

    c1: int
    start: int  # tokens
    rests: list[list[int]]


def count_work(
    tokenizer: Any, prompts: Prompts, blocked: Sequence[int], n: int, row_parts: Sequence[range]
) -> Work:
    """Count the queries of the table of M clusters with n answers per pair.

    For a large table 3 M prompts are tokenised, and the others are put together from their parts.
    If the tokenizer does not cut between the parts, a sample of rows stands for all.

    Raises ValueError if the tokenizer cannot separate two descriptions, or merges prompt and
    description.

    Parameters
    ----------
    blocked
        Ids of the clusters that are never an answer.
    row_parts
        The ranges of c2 between which the decoder empties its cache.
    """
    size = len(prompts.descriptions)
    trie = description_trie(tokenizer, prompts)
    allowed = np.ones(size, bool)
    allowed[list(blocked)] = False
    branches, counts = _open_branches(trie, allowed)
    if not branches:
        return Work(size * size, QueryCounts(), QueryCounts(), QueryCounts())
    top = branches[0]  # all allowed clusters are below it
    rows = _rows(tokenizer, prompts)
    asked = _first_asked(top, allowed, [row.c1 for row in rows])  # [rows, M]

    first = QueryCounts()
    tokens = 0  # of the first query of all pairs
    overhangs = np.zeros(BLOCK_TOKENS, np.int64)  # pairs by tokens after the last whole block
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
            # Rows that are put together from parts share their rests.
            key = (id(row.rests), over, low, asks.tobytes())
            if key not in known:
                ends = [row.rests[low + place] for place in np.flatnonzero(asks).tolist()]
                known[key] = _computed(over, [[*end, *top.path] for end in ends])
            length = int(lengths[low:high][asks].sum())
            first += QueryCounts(int(asks.sum()), length, row.start - over + known[key])
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
    """Return the branches with a choice and their counts of allowed clusters by token."""
    counts = [count[0] for count in trie.allowed_counts(~allowed[None])]
    choice = [index for index, count in enumerate(counts) if (count > 0).sum() > 1]
    return [trie.branches[index] for index in choice], [counts[index] for index in choice]


def _rows(tokenizer: Any, prompts: Prompts) -> list[_Row]:
    """Tokenise the prompts of all rows of the table, or of evenly spaced ones."""
    size = len(prompts.descriptions)

    def tokenised(pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
        rows: list[list[int]] = tokenizer([prompts.render(*pair) for pair in pairs])["input_ids"]
        return rows

    def whole(c1: int) -> _Row:
        ids = tokenised([(c1, c2) for c2 in range(size)])
        low, high = min(ids), max(ids)  # their common start is that of all
        same = takewhile(bool, (a == b for a, b in zip(low, high, strict=False)))
        start = min(sum(same), min(map(len, ids)) - 1)  # each rest has a token
        return _Row(c1, start, [row[start:] for row in ids])

    count = min(size, max(1, _SAMPLED_PROMPTS // size))
    if count < size:
        # One row, one column and the other diagonal show whether every prompt is start + rest.
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
    """Return which pairs have a choice at the first branch without c1 and c2, [rows, M] bool."""
    counts = np.array([int(allowed[clusters].sum()) for clusters in top.clusters])  # [k]
    token = np.full(len(allowed), -1)  # [M] -1 for no answer
    for index, clusters in enumerate(top.clusters):
        token[clusters] = np.where(allowed[clusters], index, -1)
    behind = np.where(token < 0, 0, counts[token])  # [M]
    c1 = np.array(rows)[:, None]
    other = c1 != np.arange(len(allowed))  # [rows, M]
    # How many first tokens lead to no cluster but c1 and c2.
    closed = (behind[c1] == 1).astype(np.int8) + ((behind == 1) & other)
    closed += (behind == 2) & (token == token[c1]) & other
    asked: np.ndarray = (counts > 0).sum() - closed > 1
    return asked


def _computed(over: int, texts: Sequence[Sequence[int]]) -> int:
    """Count the tokens of texts with a common start that a cache of blocks leaves to compute.

    `over` tokens of the start are after its last whole block; those before are not counted. The
    last token of a text is always computed.
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
    """Return the probability that at least one of n different clusters is below a branch."""
    if clusters - below < n:
        return 1.0
    ways = [
        math.lgamma(total + 1) - math.lgamma(total - n + 1)
        for total in (clusters, clusters - below)
    ]
    return -math.expm1(ways[1] - ways[0])


def _deeper(
    branches: Sequence[Branch], reach: np.ndarray, tokens: int, overhangs: np.ndarray
) -> QueryCounts:
    """Count the queries below the first branch.

    The cache holds the texts of the branch above. That it may hold more from a branch beside it is
    left out.

    Parameters
    ----------
    branches
        The first one, then the others with a choice.
    reach
        [branches - 1] probability that a pair asks there.
    tokens
        Of the first query of all pairs.
    overhangs
        [BLOCK_TOKENS] pairs by the tokens of the first query after its last whole block.
    """
    top = len(branches[0].path)
    paths = {branch.path for branch in branches}
    further = np.zeros(len(reach), np.int64)  # tokens from the first branch to this one
    before = np.zeros(len(reach), np.int64)  # tokens from the first branch to the one above
    for index, branch in enumerate(branches[1:]):
        further[index] = len(branch.path) - top
        depths = range(len(branch.path) - 1, top - 1, -1)
        before[index] = next(depth for depth in depths if branch.path[:depth] in paths) - top
    over = np.arange(BLOCK_TOKENS)[:, None]
    cached = (over + before) // BLOCK_TOKENS * BLOCK_TOKENS
    computed = over + further - cached  # [overhangs, branches]
    pairs = int(overhangs.sum())
    return QueryCounts(
        pairs * float(reach.sum()),
        tokens * float(reach.sum()) + pairs * float(further @ reach),
        float(overhangs @ computed @ reach),
    )
