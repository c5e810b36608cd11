"""The transitions of test users that every policy is evaluated on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.interests.pairs import pair_index
from models.interests.recent_pairs import recent_clusters, run_starts
from transforms import schemas as col
from transforms.transitions.held_out_cases import mine_with_recent
from transforms.transitions.splits import SplitSpec

_ROWS = 4096  # transitions in memory at a time, completed to whole users
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, eq=False)
class Transitions:
    """n transitions of some users, and what the users knew."""

    user_ids: pa.Array
    user: np.ndarray  # [n] index in `user_ids`
    c1: np.ndarray  # [n]
    c2: np.ndarray  # [n]
    novel: np.ndarray  # [n]
    # [n, RECENT] latest clusters before, newest first: c2, c1, ...; the oldest repeats
    recent: np.ndarray
    # [users, M] number of clusters the user knew before each cluster, or _NEVER
    adoption_order: np.ndarray

    def known(self) -> np.ndarray:
        """Return which clusters the user knew at the time, [n, M]."""
        order = self.adoption_order[self.user]
        return order < np.take_along_axis(order, self.novel[:, None].astype(np.intp), axis=1)


def held_out_transitions(
    sequences: pa.Table, clusters: np.ndarray, size: int, cut: int | None
) -> Iterator[Transitions]:
    """Mine the transitions of SEQUENCES of test users, a few users at a time.

    `clusters` [items] are those of the catalogue's items, of M = `size`. Transitions before `cut`
    (see `on_side_of_cut`) only make clusters known.
    """
    mined, recent = mine_with_recent(sequences, clusters)
    if not mined.num_rows:
        return
    encoded = mined[col.USER_ID].combine_chunks().dictionary_encode()
    user = encoded.indices.to_numpy().astype(np.int64)  # ascending
    starts = np.searchsorted(user, np.arange(len(encoded.dictionary)))
    order = np.arange(len(user)) - starts[user] + 1
    c1, c2, novel = (mined[name].to_numpy() for name in (col.C1, col.C2, col.NOVEL))
    evaluated = np.ones(len(user), bool)
    if cut is not None:
        evaluated = mined[col.TIMESTAMP].cast(pa.int64()).to_numpy() >= cut
    of_user = np.bincount(user, evaluated, len(starts)).astype(np.int64)
    group = (np.cumsum(of_user) - of_user) // _ROWS
    for number in range(int(group[-1]) + 1):
        users = np.flatnonzero((group == number) & (of_user > 0))
        if not len(users):
            continue
        at = np.full(len(starts), -1)
        at[users] = np.arange(len(users))
        rows = np.flatnonzero(at[user] >= 0)
        adoption_order = np.full((len(users), size), _NEVER, np.int32)
        adoption_order[at[user[rows]], novel[rows]] = order[rows]
        adoption_order[np.arange(len(users)), c2[starts[users]]] = 0  # the first known cluster
        rows = rows[evaluated[rows]]
        yield Transitions(
            encoded.dictionary.take(pa.array(users)),
            at[user[rows]],
            *(c1[rows], c2[rows], novel[rows], recent[rows]),
            adoption_order,
        )


def engagements_by_item(sequences: pa.Table, items: int, held_out: SplitSpec) -> np.ndarray:
    """Count the engagements with each item in the retriever's training log, [items]."""
    kept = held_out.learned_from(sequences)
    return np.bincount(pc.list_flatten(kept[col.ITEMS_OF_USER]).to_numpy(), minlength=items)


def users_by_pair(sequences: pa.Table, clusters: np.ndarray, size: int) -> np.ndarray:
    """Count the users whose two most recent clusters are (c1, c2), [M * M] by `pair_index`."""
    lengths = pc.list_value_length(sequences[col.ITEMS_OF_USER]).to_numpy()
    user = np.repeat(np.arange(len(lengths)), lengths)
    cluster = clusters[pc.list_flatten(sequences[col.ITEMS_OF_USER]).to_numpy()]
    starts = run_starts(user, cluster)
    user, cluster = user[starts], cluster[starts]
    last = np.cumsum(np.bincount(user, minlength=len(lengths))) - 1
    newest, older = recent_clusters(user, cluster, last, 2).T
    return np.bincount(pair_index(older, newest, size), minlength=size**2)
