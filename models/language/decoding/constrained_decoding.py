"""The exact best n clusters of the constrained distribution, with few queries to the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from models.language.description_trie import DescriptionTrie


@dataclass(frozen=True)
class Query:
    """A query for the next token, for one prompt of a batch at one branch of the trie."""

    row: int  # of the prompt in the batch
    branch: int  # index in the trie's branches


# For each query the logits [k] of the branch's tokens.
Ask = Callable[[Sequence[Query]], Sequence[np.ndarray]]


def constrained_top(
    trie: DescriptionTrie, ask: Ask, excluded: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the n most probable clusters of each prompt and their exact probabilities.

    Branches are asked from the root down. No cluster below a branch is more probable than the
    branch, so a branch is not asked once n clusters are certain to be more probable.

    Parameters
    ----------
    ask
        Called once for each depth of the trie that has a query.
    excluded
        [batch, M] bool: clusters that are no answer.

    Returns
    -------
    clusters, probabilities
        [batch, n] int32, best first, ties by id, -1 where fewer than n are allowed; and [batch, n]
        float32, 0 there.
    """
    batch = len(excluded)
    scores = [np.zeros((batch, len(branch.tokens))) for branch in trie.branches]
    behind = trie.allowed_counts(excluded)
    # [branches][batch] bool: several continuations are allowed, and the model was not asked.
    unsettled = [(counts > 0).sum(axis=1) > 1 for counts in behind]
    for _, group in groupby(range(len(trie.branches)), lambda b: len(trie.branches[b].path)):
        # A branch that was not asked counts as uniform; the sum below it is right.
        probabilities = np.exp(trie.log_probabilities(scores, excluded))
        threshold = _nth_certain(trie, probabilities, unsettled, n)
        queries = []
        for index in group:
            branch = trie.branches[index]
            reach = probabilities[:, np.concatenate(branch.clusters)].sum(axis=1)
            rows = np.flatnonzero(unsettled[index] & (reach > threshold))
            unsettled[index][rows] = False
            queries += [Query(row, index) for row in rows.tolist()]
        if queries:
            for query, logits in zip(queries, ask(queries), strict=True):
                scores[query.branch][query.row] = logits
    return _top(np.exp(trie.log_probabilities(scores, excluded)), n)


def _nth_certain(
    trie: DescriptionTrie, probabilities: np.ndarray, unsettled: list[np.ndarray], n: int
) -> np.ndarray:
    """Return a probability [batch] that n clusters have at least.

    Below an unsettled branch, the best cluster has at least the mean.
    """
    certain = probabilities.copy()
    # Branches near the root come last and overwrite the branches below them.
    for branch, open_ in reversed(list(zip(trie.branches, unsettled, strict=True))):
        below = np.concatenate(branch.clusters)
        rows = np.flatnonzero(open_)
        certain[np.ix_(rows, below)] = 0.0
        certain[rows, below[0]] = probabilities[np.ix_(rows, below)].mean(axis=1)
    if n > certain.shape[1]:
        return np.zeros(len(certain))
    return np.partition(certain, -n, axis=1)[:, -n]


def _top(probabilities: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and probabilities [batch, n] of the largest; a probability of 0 is no answer."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
    values = np.take_along_axis(probabilities, best, axis=1)
    clusters = np.full((len(best), n), -1, np.int32)
    top = np.zeros((len(best), n), np.float32)
    clusters[:, : best.shape[1]] = np.where(values > 0, best, -1)
    top[:, : best.shape[1]] = values
    return clusters, top
