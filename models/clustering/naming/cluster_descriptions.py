"""Names interest clusters in language: a few keywords, unique within a level.

The terms of the items are scored by class-based TF-IDF. Each cluster leads with a keyword of its
own, so descriptions are unique by construction, and as far as terms reach with a first token of its
own: then one look at the language model's first token gives the probabilities of all clusters.
"""

import types
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np
import scipy.sparse

from models.clustering.naming.item_terms import alike, item_terms
from models.clustering.naming.lead_keywords import leads_of

_MIN_SHARE = 0.05  # of a cluster's items that carry a good term
_LIFT = 1.25  # times the share outside that a good term has inside, of the items and of the traffic
_USUAL_SHARE = 0.3  # of its items: from here on a term describes, even if it is no rarer outside
# Factors on the scores of terms that describe but do not tell apart, and of those that do neither:
# they are used only where there is nothing better.
_USUAL, _WEAK = 1e-2, 1e-4
_LEAD_SHARE_POWER = 1.0
_UNSEEN = 1e-6  # of the mean traffic, for an item without any
# A word that this many items of a cluster carry, and this many times the share that carries it
# outside, is proper to the cluster: it may lead a description that goes on with broader terms.
_PROPER_ITEMS, _PROPER_LIFT = 3, 4
_PAIR_LEAD = 0.01  # worth of a pair as a lead: it begins like others do


def description(keywords: Sequence[str]) -> str:
    """Join keywords to the one line that the language model sees.

    Examples
    --------
    >>> description(["horror", "zombies"])
    'horror, zombies'
    """
    return ", ".join(keywords)


def class_tf_idf(frequencies: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Class-based TF-IDF: tf(t, c) * ln(1 + A / f(t)).

    f(t) is the frequency of term t over all classes and A the mean total frequency of a class.
    Grootendorst, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure",
    arXiv 2203.05794.

    Parameters
    ----------
    frequencies
        [classes, terms] float, >= 0.

    Returns
    -------
    scipy.sparse.csr_array
        [classes, terms] float64 of the same sparsity.
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
    """Return the keywords of each cluster of a level, most telling first.

    Parameters
    ----------
    cluster_ids
        [n] int, 0 to cluster_count - 1.
    cluster_count
        Number of clusters. One without any usable term gets a made-up label ("unnamed a").
    keywords
        Of each item, may be empty.
    texts
        Of each item, the title first, may be empty.
    traffic
        [n] interactions: popular items count more (logarithmically).
    first_tokens
        Of each of some keywords, the first token of a description that begins with it.
    keyword_count
        At most this many keywords per new name.
    kept
        Clusters that have a name already; the others get different ones.

    Returns
    -------
    list of list of str
        Per cluster 1 to keyword_count normalised keywords; no two clusters have the same first one,
        and as few as possible the same first token.
    """
    lengths = {len(cluster_ids), len(keywords), len(texts), len(traffic)}
    if len(lengths) > 1 or cluster_count < 1 or keyword_count < 1:
        raise ValueError(
            f"{len(cluster_ids)} cluster ids, {len(keywords)} keyword lists, {len(texts)} texts, "
            f"{len(traffic)} traffic counts, {cluster_count} clusters of {keyword_count} keywords: "
            "pass one of each per item, and at least one cluster and keyword"
        )
    terms, carried = item_terms(keywords, texts)
    weights = 1 + np.log1p(np.asarray(traffic, np.float64))
    scores, shares, factors, proper = _scores(
        np.asarray(cluster_ids), cluster_count, carried, weights, np.asarray(traffic, np.float64)
    )
    # A lead stands for the whole cluster, so the share of the items that carry it counts once more.
    worth = scores.data * shares**_LEAD_SHARE_POWER
    scores.data *= factors
    pair = np.array([" & " in term for term in terms], bool)[scores.indices]
    worth *= np.where(pair, _PAIR_LEAD * factors, np.where(proper, 1.0, factors))
    leads = leads_of(scores, worth, terms, first_tokens, kept)
    result = []
    for cluster, lead in enumerate(leads):
        if cluster in kept:
            result.append(list(kept[cluster]))
            continue
        row = slice(*scores.indptr[cluster : cluster + 2])
        columns, values = scores.indices[row], scores.data[row]
        good = factors[row] == factors[row].max(initial=0)
        best_first = columns[good][np.lexsort((columns[good], -values[good]))]
        # Pairs are for leads, where single keywords run out.
        others = (terms[column] for column in best_first if " & " not in terms[column])
        result.append(_distinct(lead, others, keyword_count))
    return result


def _scores(
    cluster_ids: np.ndarray,
    cluster_count: int,
    carried: scipy.sparse.csr_array,
    weights: np.ndarray,
    traffic: np.ndarray,
) -> tuple[scipy.sparse.csr_array, np.ndarray, np.ndarray, np.ndarray]:
    """Class-based TF-IDF [clusters, terms] of the share of each cluster that carries each term.

    Also, aligned with the data of the scores: the share itself, a factor below 1 for what describes
    the cluster badly, and whether the term is proper to it (bool).
    """
    present = carried.copy()
    present.data = np.ones_like(carried.data)
    of_cluster = np.bincount(cluster_ids, weights, cluster_count)
    relative = weights / of_cluster[cluster_ids]
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
    proper = (counts >= _PROPER_ITEMS) & (share > _PROPER_LIFT * share_outside)
    return scores, share, factors, proper


def _members(ids: np.ndarray, count: int, weights: np.ndarray) -> scipy.sparse.csr_array:
    """Weights of the items of each cluster [clusters, items]."""
    items = np.arange(len(ids))
    return scipy.sparse.csr_array((weights, (ids, items)), (count, len(ids)))


def _shares(
    ids: np.ndarray, count: int, present: scipy.sparse.csr_array, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the weight inside and outside a cluster that carry a term.

    For each term that occurs in a cluster, cluster by cluster, by term.
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


def _distinct(lead: str, others: Iterable[str], count: int) -> list[str]:
    """Return the lead and the first others that say something else, `count` in all at most."""
    kept = [lead]
    for term in others:
        if len(kept) == count:
            break
        if not any(alike(term, other) for other in kept):
            kept.append(term)
    return kept
