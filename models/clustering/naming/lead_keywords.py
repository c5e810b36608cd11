"""The keyword that a cluster leads with: a maximum-weight matching of clusters to first tokens."""

import itertools
import string
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

_CANDIDATES = 100  # leads considered per cluster
# Of its worth, what a lead counts: one that says nothing is not made up for by a very good one.
_LEAD_POWER = 0.1


def leads_of(
    scores: scipy.sparse.csr_array,
    worth: np.ndarray,
    terms: list[str],
    first_tokens: Callable[[Sequence[str]], Sequence[Hashable]],
    kept: Mapping[int, Sequence[str]],
) -> list[str]:
    """Give each cluster a term of its own to lead with, and as many as possible a first token.

    A weak term that begins like no other goes before a good one that does not, for every first
    token that clusters share costs more questions about each pair of interests: with 761 clusters
    of MovieLens a matching by worth alone takes 35 questions a pair, this one 1. Clusters that
    find no token take the best terms that are left, no two with the same first word but for pairs.

    Parameters
    ----------
    scores
        [clusters, terms], for its sparsity.
    worth
        Aligned with the data of the scores: of a term as the lead of a cluster.
    kept
        Keywords of clusters that have some, whose leads and first tokens are taken.
    """
    count = scores.shape[0]
    leads_taken = {words[0] for words in kept.values()}
    taken = sorted(leads_taken)
    taken_columns = [column for column, term in enumerate(terms) if term in leads_taken]
    order = np.concatenate(
        [
            low + np.lexsort((scores.indices[low:high], -worth[low:high]))[:_CANDIDATES]
            for low, high in itertools.pairwise(scores.indptr)
        ]
    )
    clusters = np.repeat(np.arange(count), np.diff(scores.indptr))[order]
    open_to_all = ~np.isin(scores.indices[order], taken_columns) & ~np.isin(clusters, list(kept))
    order, clusters = order[open_to_all], clusters[open_to_all]
    values = (worth[order] / worth.max(initial=0)) ** _LEAD_POWER
    columns, candidate_of = np.unique(scores.indices[order], return_inverse=True)
    candidates = [terms[column] for column in columns]
    of_all = [*taken, *candidates]
    tokens = _codes(first_tokens(of_all))
    names = _codes(term if " & " in term else term.split(" ")[0] for term in of_all)
    tokens, taken_tokens = tokens[len(taken) :][candidate_of], tokens[: len(taken)]
    names, taken_names = names[len(taken) :][candidate_of], names[: len(taken)]

    # Without a token of its own, a cluster leads with what is not the best term of any token.
    second_best = np.delete(np.arange(len(order)), _first_of_each(clusters, tokens))
    spare = np.zeros(count)
    np.maximum.at(spare, clusters[second_best], values[second_best])
    own = np.flatnonzero(~np.isin(tokens, taken_tokens))
    first = _matching(clusters[own], tokens[own], values[own], spare)
    chosen = np.full(count, -1)
    chosen[first >= 0] = own[first[first >= 0]]
    used = np.concatenate([names[chosen[chosen >= 0]], taken_names])
    free = np.flatnonzero((chosen < 0)[clusters] & ~np.isin(names, used))
    more = _matching(clusters[free], names[free], values[free], np.zeros(count))
    chosen[more >= 0] = free[more[more >= 0]]
    labels = _labels({*terms, *taken})
    return [candidates[candidate_of[place]] if place >= 0 else next(labels) for place in chosen]


def _codes(keys: Iterable[Hashable]) -> np.ndarray:
    """Number keys in the order in which they first occur: int64."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)


def _first_of_each(clusters: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return where each pair of a cluster and a code first occurs, sorted by the pair."""
    return np.unique(clusters * (codes.max(initial=0) + 1) + codes, return_index=True)[1]


def _matching(
    clusters: np.ndarray, codes: np.ndarray, values: np.ndarray, spare: np.ndarray
) -> np.ndarray:
    """Give as many clusters as possible a code of their own; of all ways to, the most valuable.

    Parameters
    ----------
    clusters, codes, values
        [candidates] cluster, code (>= 0) and value (0 to 1), the best ones of a cluster first.
    spare
        [clusters] value (0 to 1) of staying without.

    Returns
    -------
    np.ndarray
        [clusters] int64: the candidate of each cluster, -1 for none.
    """
    count, width = len(spare), int(codes.max(initial=-1)) + 1
    best = _first_of_each(clusters, codes)
    # A full matching must exist: behind the codes, each cluster has a column to stay without. All
    # values together weigh less than one more code.
    own = np.arange(count)
    weights = np.concatenate([count + 2 + values[best], 1 + spare])
    rows = np.concatenate([clusters[best], own])
    edges = (rows, np.concatenate([codes[best], width + own]))
    rows, matched = min_weight_full_bipartite_matching(
        scipy.sparse.csr_array((weights, edges), (count, width + count)), maximize=True
    )
    code_of = np.empty(count, np.int64)
    code_of[rows] = matched
    taken = best[codes[best] == code_of[clusters[best]]]
    chosen = np.full(count, -1)
    chosen[clusters[taken]] = taken
    return chosen


def _labels(taken: set[str]) -> Iterator[str]:
    """Yield "unnamed a", ..., "unnamed z", "unnamed aa", ... but for those that are taken."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            label = f"unnamed {''.join(letters)}"
            if label not in taken:
                yield label
