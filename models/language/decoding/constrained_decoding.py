"""The best n clusters of the constrained distribution, exactly, for few questions to the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from models.language.description_trie import DescriptionTrie


@dataclass(frozen=True)
class Question:
    """Which token comes next, for one prompt of a batch, at one branch of the trie.

    Attributes
    ----------
    row : int
        Of the prompt in the batch.
    branch : int
        Index in the trie's branches.
    """

    row: int
    branch: int


# For each question the logits [k] of the branch's tokens.
Ask = Callable[[Sequence[Question]], Sequence[np.ndarray]]


def constrained_top(
    trie: DescriptionTrie, ask: Ask, excluded: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the n most probable clusters of each prompt and their true probabilities.

    Branches are asked from the root down. No cluster below a branch is more probable than reaching
    the branch is, so it is not asked once n clusters are certain to be more probable than that.

    Parameters
    ----------
    trie
        Of the M descriptions.
    ask
        Asks the model; called once for each depth of the trie that has something to ask.
    excluded
        [batch, M] bool: the clusters that may not be answered.
    n
        How many clusters to find.

    Returns
    -------
    clusters [batch, n] int32, best first, -1 where fewer than n are allowed, and their
    probabilities [batch, n] float32, 0 there. Equally probable clusters are in order of their ids.
    """
    batch = len(excluded)
    scores = [np.zeros((batch, len(branch.tokens))) for branch in trie.branches]
    behind = trie.allowed_counts(excluded)
    # [branches][batch] bool: more than one continuation is allowed, and the model was not asked.
    unsettled = [(counts > 0).sum(axis=1) > 1 for counts in behind]
    for _, group in groupby(range(len(trie.branches)), lambda b: len(trie.branches[b].path)):
        # A branch not asked yet counts as uniform; the sum of what lies below it is right anyway.
        probabilities = np.exp(trie.log_probabilities(scores, excluded))
        threshold = _nth_certain(trie, probabilities, unsettled, n)
        questions = []
        for index in group:
            branch = trie.branches[index]
            reach = probabilities[:, np.concatenate(branch.clusters)].sum(axis=1)
            rows = np.flatnonzero(unsettled[index] & (reach > threshold))
            unsettled[index][rows] = False
            questions += [Question(row, index) for row in rows.tolist()]
        if questions:
            for question, logits in zip(questions, ask(questions), strict=True):
                scores[question.branch][question.row] = logits
    return _top(np.exp(trie.log_probabilities(scores, excluded)), n)


def _nth_certain(
    trie: DescriptionTrie, probabilities: np.ndarray, unsettled: list[np.ndarray], n: int
) -> np.ndarray:
    """Return a probability that n clusters have at least, [batch].

    Clusters below no unsettled branch have theirs; of those below one, the best has at least the
    mean.
    """
    certain = probabilities.copy()
    # The branches nearest to the root come last, and speak for all that is below them.
    for branch, open_ in reversed(list(zip(trie.branches, unsettled, strict=True))):
        below = np.concatenate(branch.clusters)
        rows = np.flatnonzero(open_)
        certain[np.ix_(rows, below)] = 0.0
        certain[rows, below[0]] = probabilities[np.ix_(rows, below)].mean(axis=1)
    if n > certain.shape[1]:
        return np.zeros(len(certain))
    return np.partition(certain, -n, axis=1)[:, -n]


def _top(probabilities: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ids [batch, n] and probabilities [batch, n] of the largest; 0 is as good as none."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :n]
    values = np.take_along_axis(probabilities, best, axis=1)
    clusters = np.full((len(best), n), -1, np.int32)
    top = np.zeros((len(best), n), np.float32)
    clusters[:, : best.shape[1]] = np.where(values > 0, best, -1)
    top[:, : best.shape[1]] = values
    return clusters, top
