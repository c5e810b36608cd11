"""Describes interest clusters by a few keywords, unique within a level.

The terms of the items are scored by class-based TF-IDF. Each cluster has a lead keyword of its own,
so descriptions are unique by construction. As far as terms suffice, each lead also has a first
token of its own: one query for the first token then gives the probabilities of all clusters.
"""

import types
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import scipy.sparse

from models.clustering.naming.item_terms import item_terms, terms_overlap
from models.clustering.naming.lead_keywords import lead_keywords

_MIN_SHARE = 0.05  # of a cluster's items that carry a good term
_LIFT = 1.25  # times the share outside that a good term has inside, of the items and of the traffic
_USUAL_SHARE = 0.3  # of its items: from here on a term describes, even if it is no rarer outside
# Factors on the scores of terms that describe a cluster but do not distinguish it, and of terms
# that do neither: these are used only where there is nothing better.
_USUAL, _WEAK = 1e-2, 1e-4
_UNSEEN = 1e-6  # of the mean traffic, for an item without any
# A word is distinctive for a cluster if at least this many items carry it and its share is this
# many times the share outside: it may lead a description that goes on with broader terms.
_DISTINCTIVE_ITEMS, _DISTINCTIVE_LIFT = 3, 4
_PAIR_LEAD = 0.01  # worth of a pair as a lead: it shares its beginning with other leads


def description(keywords: Sequence[str]) -> str:
    """Join keywords to the one line that the language model sees.

    Examples
    --------
    >>> description(["horror", "zombies"])
    'horror, zombies'
    """
    return ", ".join(keywords)


def class_tf_idf(frequencies: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Return class-based TF-IDF, tf(t, c) * ln(1 + A / f(t)), of frequencies [classes, terms].

    f(t) is the frequency of term t over all classes and A the mean total frequency of a class.
    Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure",
    arXiv 2203.05794. (scikit-learn's TfidfTransformer counts documents, not frequencies.)
    """
    scores = scipy.sparse.csr_array(frequencies, dtype=np.float64, copy=True)
    per_term = np.asarray(scores.sum(0)).ravel()
    per_class = scores.sum() / max(1, scores.shape[0])
    scores.data *= np.log1p(per_class / per_term[scores.indices])
    return scores


def describe_clusters(
    cluster_ids: np.ndarray,
    cluster_count: int,
    keywords: Sequence[Sequence[str]],
    texts: Sequence[str],
    traffic: np.ndarray,
    first_tokens: Callable[[Sequence[str]], Sequence[Hashable]],
    keyword_count: int = 4,
    kept: Mapping[int, Sequence[str]] = types.MappingProxyType({}),
) -> list[list[str]]:
    """Return 1 to `keyword_count` normalised keywords of each cluster of a level, the lead first.

    No two clusters have the same lead, and as few as possible the same first token. A cluster
    without any usable term gets a label such as "unnamed a".

    Parameters
    ----------
    cluster_ids
        [n] int, of the items.
    keywords, texts
        Of each item, may be empty; the title is the beginning of its text.
    traffic
        [n] interactions: popular items count more (logarithmically).
    first_tokens
        Maps keywords to the first token of a description that begins with each.
    kept
        Keywords of clusters that keep theirs; the other clusters get different leads.
    """
    terms, carried = item_terms(keywords, texts)
    scores, worth, factors = _scores(cluster_ids, cluster_count, terms, carried, traffic)
    result = []
    for cluster, lead in enumerate(lead_keywords(scores, worth, terms, first_tokens, kept)):
        if cluster in kept:
            result.append(list(kept[cluster]))
            continue
        row = slice(*scores.indptr[cluster : cluster + 2])
        columns, values = scores.indices[row], scores.data[row]
        good = factors[row] == factors[row].max(initial=0)
        found = [lead]
        for column in columns[good][np.lexsort((columns[good], -values[good]))]:
            if len(found) == keyword_count:
                break
            term, pair = terms[column], " & " in terms[column]
            # Pairs are for leads only, where single keywords run out.
            if not pair and not any(terms_overlap(term, other) for other in found):
                found.append(term)
        result.append(found)
    return result


def _scores(
    cluster_ids: np.ndarray,
    cluster_count: int,
    terms: list[str],
    carried: scipy.sparse.csr_array,
    traffic: np.ndarray,
) -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray]:
    """Score the terms of each cluster: sparse [clusters, terms].

    Also returns, aligned with the data of the scores, the worth of a term as the lead and the
    factor in its score, which is below 1 for a bad description.
    """
    present = carried.copy()
    present.data = np.ones_like(carried.data)
    weights = 1 + np.log1p(traffic)
    relative = weights / np.bincount(cluster_ids, weights, cluster_count)[cluster_ids]
    scores = class_tf_idf(_members(cluster_ids, cluster_count, relative) @ carried)
    scores.sort_indices()
    sizes = np.bincount(cluster_ids, minlength=cluster_count)
    share, share_outside = _shares(cluster_ids, cluster_count, present, weights)
    of_items, of_items_outside = _shares(cluster_ids, cluster_count, present, np.ones_like(weights))
    seen = traffic + _UNSEEN * (traffic.sum() / max(1, len(traffic)) or 1.0)
    by_traffic, by_traffic_outside = _shares(cluster_ids, cluster_count, present, seen)
    rows = np.repeat(np.arange(cluster_count), np.diff(scores.indptr))
    counts = (of_items * sizes[rows]).round()
    common = counts >= np.maximum(2, _MIN_SHARE * sizes[rows])
    rarer = (of_items > _LIFT * of_items_outside) & (by_traffic > _LIFT * by_traffic_outside)
    usual = common & (share >= _USUAL_SHARE)
    factors = np.select([common & rarer, usual], [1.0, _USUAL], _WEAK)
    distinctive = (counts >= _DISTINCTIVE_ITEMS) & (share > _DISTINCTIVE_LIFT * share_outside)
    pair = np.array([" & " in term for term in terms], bool)[scores.indices]
    # A lead represents the whole cluster, so the share of the items that carry it counts again.
    worth = scores.data * share
    worth *= np.where(pair, _PAIR_LEAD * factors, np.where(distinctive, 1.0, factors))
    scores.data *= factors
    return scores, worth, factors


def _members(ids: np.ndarray, count: int, weights: np.ndarray) -> scipy.sparse.csr_array:
    """Return the weights of the items of each cluster [clusters, items]."""
    items = np.arange(len(ids))
    return scipy.sparse.csr_array((weights, (ids, items)), (count, len(ids)))


def _shares(
    ids: np.ndarray, count: int, present: scipy.sparse.csr_array, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of the weight inside and outside a cluster that carry a term.

    For each term of each cluster, sorted by cluster and term.
    """
    within = _members(ids, count, weights) @ present
    within.sort_indices()
    of_cluster = np.bincount(ids, weights, count)
    clusters = np.repeat(np.arange(count), np.diff(within.indptr))
    outside = (weights @ present)[within.indices] - within.data
    return (
        within.data / np.maximum(of_cluster[clusters], np.finfo(float).tiny),
        outside / np.maximum((weights.sum() - of_cluster)[clusters], np.finfo(float).tiny),
    )
