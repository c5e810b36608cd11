"""The differences between two versions of a novelty table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.interests.novelty_table import NoveltyTable

_TOP = 5  # answers compared as sets
_BLOCK = 2048  # pairs at a time: their dense probabilities stay in the cache
_NONE = -1


def new_ids(
    before: Sequence[str], after: Sequence[str], mapping: pa.Table | None
) -> NDArray[np.int32]:
    """Return the later id of each earlier cluster, [M0]; -1 where a cluster is gone.

    Without a CLUSTER_MAPPING, clusters with the same id and description are the same.
    """
    ids = np.full(len(before), _NONE, np.int32)
    if mapping is not None:
        both = mapping.drop_null()
        ids[both["old_id"].to_numpy()] = both["new_id"].to_numpy()
        return ids
    same = [i for i, (old, new) in enumerate(zip(before, after, strict=False)) if old == new]
    ids[same] = same
    return ids


def table_diff(
    before: NoveltyTable, after: NoveltyTable, ids: NDArray[np.int32], most: int = 20
) -> dict[str, Any]:
    """Compare the answers to all pairs of clusters that are in both versions.

    `ids` are [M0] of `new_ids`; `most` limits `most_changed`. Returns `diff` of metrics.json:

    - `changed`: share of the pairs with another first answer, or none; 1 without a common pair;
    - `jaccard`: `jaccard` of the first 5 answers, its mean and the histogram of its values;
    - `winners`: clusters that are the first answer of more pairs (`won`) or of fewer (`lost`),
      largest gain first; the id is None where the cluster is gone;
    - `most_changed`: the pairs with the largest `total_variation` of their answers.
    """
    kept = np.flatnonzero(ids >= 0)
    c1, c2 = np.repeat(kept, len(kept)), np.tile(kept, len(kept))
    new_c1, new_c2 = ids[c1], ids[c2]
    names, renamed = _renamed(before, after, ids)
    was, now = renamed[before.novel[c1, c2, 0]], after.novel[new_c1, new_c2, 0]
    changed = was != now
    overlap = np.empty(len(c1))
    distance = np.empty(len(c1))
    for start in range(0, len(c1), _BLOCK):
        part = slice(start, start + _BLOCK)
        pair, new_pair = (c1[part], c2[part]), (new_c1[part], new_c2[part])
        old, new = renamed[before.novel[pair]], after.novel[new_pair]
        overlap[part] = jaccard(old[:, :_TOP], new[:, :_TOP])
        distance[part] = total_variation(
            old, before.probability[pair], new, after.probability[new_pair], len(names)
        )
    values, counts = np.unique(overlap.round(4), return_counts=True)
    largest = np.argsort(-distance, kind="stable")[:most]
    return {
        "pairs": len(c1),
        "clusters": {
            "before": len(before.descriptions),
            "after": len(after.descriptions),
            "kept": len(kept),
        },
        "changed": float(changed.mean()) if len(c1) else 1.0,
        "jaccard": {
            "at": _TOP,
            "mean": float(overlap.mean()) if len(c1) else 0.0,
            "histogram": [
                {"jaccard": float(value), "pairs": int(count)}
                for value, count in zip(values, counts, strict=True)
            ],
        },
        "winners": _winners(was[changed], now[changed], names, len(after.descriptions)),
        "most_changed": [
            {
                "c1": after.descriptions[new_c1[row]],
                "c2": after.descriptions[new_c2[row]],
                "before": _answer(names, was[row], before.probability[c1[row], c2[row], 0]),
                "after": _answer(names, now[row], after.probability[new_c1[row], new_c2[row], 0]),
                "distance": float(distance[row]),
            }
            for row in largest
            if distance[row] > 0
        ],
    }


def jaccard(a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return |A and B| / |A or B| of rows of distinct ids, -1 pads; 1 where both are empty.

    >>> jaccard(np.array([[1, 2], [3, -1]]), np.array([[2, 4], [3, -1]])).round(2).tolist()
    [0.33, 1.0]
    """
    shared = ((a[:, :, None] == b[:, None, :]) & (a[:, :, None] != _NONE)).sum((1, 2))
    either = (a != _NONE).sum(1) + (b != _NONE).sum(1) - shared
    return np.where(either > 0, shared / np.maximum(either, 1), 1.0)


def total_variation(
    a: NDArray[np.int32],
    p: NDArray[np.float32],
    b: NDArray[np.int32],
    q: NDArray[np.float32],
    size: int,
) -> NDArray[np.float64]:
    """Return half the sum of |p - q| over the ids below `size`; ids that are not listed have 0.

    `a` [n, k] and `b` [n, l] are rows of distinct ids, -1 pads, with probabilities `p` and `q`.
    """
    dense = np.zeros((len(a), size + 1))  # pads go to the last column
    at = np.arange(len(a))[:, None]
    dense[at, a] = p
    dense[at, b] -= q
    return np.abs(dense[:, :size]).sum(1) / 2


def _renamed(
    before: NoveltyTable, after: NoveltyTable, ids: NDArray[np.int32]
) -> tuple[list[str], NDArray[np.int32]]:
    """Number the clusters of both versions, the later version first, then the gone clusters.

    Returns their descriptions, and the number [M0 + 1] of each earlier cluster; the last is -1, so
    that -1 is a valid index.
    """
    gone = np.flatnonzero(ids < 0)
    numbers = np.append(ids, np.int32(_NONE))
    numbers[gone] = len(after.descriptions) + np.arange(len(gone))
    return [*after.descriptions, *(before.descriptions[i] for i in gone)], numbers


def _winners(
    was: NDArray[np.int32], now: NDArray[np.int32], names: list[str], size: int
) -> list[dict[str, Any]]:
    won = np.bincount(now[now >= 0], minlength=len(names))
    lost = np.bincount(was[was >= 0], minlength=len(names))
    order = np.argsort(lost - won, kind="stable")
    return [
        {
            "cluster_id": int(i) if i < size else None,  # None: the cluster is gone
            "description": names[i],
            "won": int(won[i]),
            "lost": int(lost[i]),
        }
        for i in order
        if won[i] or lost[i]
    ]


def _answer(names: list[str], cluster: int, probability: float) -> dict[str, Any] | None:
    if cluster < 0:
        return None
    return {"description": names[cluster], "probability": round(float(probability), 6)}
