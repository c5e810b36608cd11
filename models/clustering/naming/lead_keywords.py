"""Chooses the lead keywords: a maximum-weight matching of clusters to first tokens."""

import itertools
import string
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import scipy.sparse
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

_CANDIDATES = 100  # leads considered per cluster
_LEAD_POWER = 0.1  # of the worth of a lead: a very good lead does not outweigh a meaningless one


def lead_keywords(
    scores: scipy.sparse.csr_array,
    worth: np.ndarray,
    terms: list[str],
    first_tokens: Callable[[Sequence[str]], Sequence[Hashable]],
    kept: Mapping[int, Sequence[str]],
) -> list[str]:
    """Give each cluster a lead of its own, and as many as possible a first token of their own.

    A weak term with its own first token is better than a good one without, because a first token
    that clusters share costs more queries for each pair of interests: with 761 clusters of
    MovieLens a matching by worth alone takes 35 queries a pair, this one 1. The other clusters take
    the best unused terms, with different first words (or different pairs).

    Parameters
    ----------
    scores
        [clusters, terms]; only its sparsity counts.
    worth
        Aligned with the data of the scores: of a term as the lead of a cluster.
    kept
        Keywords of some clusters; no other cluster gets their leads or first tokens.
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

    # Without a first token of its own, a cluster leads with a term that is no token's best.
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
    labels = _made_up_labels({*terms, *taken})
    return [candidates[candidate_of[place]] if place >= 0 else next(labels) for place in chosen]


def _codes(keys: Iterable[Hashable]) -> np.ndarray:
    """Number keys in the order in which they first occur: int64."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)


def _first_of_each(clusters: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the position of the first of each pair (cluster, code), sorted by the pair."""
    return np.unique(clusters * (codes.max(initial=0) + 1) + codes, return_index=True)[1]


def _matching(
    clusters: np.ndarray, codes: np.ndarray, values: np.ndarray, spare: np.ndarray
) -> np.ndarray:
    """Give as many clusters as possible a code of their own, with the largest sum of values.

    Candidates have a cluster, a code (>= 0) and a value (0 to 1) [candidates], the best of a
    cluster first; `spare` [clusters] is the value (0 to 1) of no code. Returns the candidate of
    each cluster [clusters] int64, -1 for none.
    """
    count, width = len(spare), int(codes.max(initial=-1)) + 1
    best = _first_of_each(clusters, codes)
    # A full matching must exist: after the codes, each cluster has a column of its own for no code.
    # All values together weigh less than one more code.
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


def _made_up_labels(taken: set[str]) -> Iterator[str]:
    """Yield "unnamed a", ..., "unnamed z", "unnamed aa", ... without the taken ones."""
    for length in itertools.count(1):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            label = f"unnamed {''.join(letters)}"
            if label not in taken:
                yield label
