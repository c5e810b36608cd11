"""The transitions of test users that every policy is evaluated on."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.interests.pairs import pair_index
from models.interests.recent_pairs import RECENT, recent_clusters, run_starts
from transforms import schemas as col
from transforms.tables.sharding import mix, stable_hash
from transforms.transitions.mine import mine_transitions
from transforms.transitions.splits import SplitSpec, on_side_of_cut
from transforms.transitions.user_sequences import item_ids_of

_ROWS = 4096  # transitions in memory at a time, completed to whole users
_NEVER = np.iinfo(np.int32).max
# The sampled test transitions, for the retriever: (c1, c2) -> novel, the first item of novel, the
# clusters and the items before it, and `Transitions.recent`.
TEST_CASES = pa.schema(
    {
        **{name: col.TRANSITIONS.field(name).type for name in (col.USER_ID, col.C1, col.C2)},
        col.NOVEL: pa.int32(),
        col.ITEM: pa.int32(),
        col.KNOWN: pa.list_(pa.int32()),
        col.RECENT: pa.list_(pa.int32(), RECENT),
        col.ITEM_IDS: pa.list_(pa.string()),
    }
)


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


def mine_with_recent(sequences: pa.Table, clusters: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Mine TRANSITIONS, and `Transitions.recent` of each."""
    mined = mine_transitions(sequences, clusters, RECENT)
    newest_first = [mined[f"c{RECENT - rank}"] for rank in range(RECENT)]
    columns = {name: mined[name] for name in col.TRANSITIONS.names}
    columns |= {col.C1: newest_first[1], col.C2: newest_first[0]}
    recent = np.stack([column.to_numpy() for column in newest_first], axis=1)
    return pa.table(columns), recent


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


def hashes(user_ids: pa.Array, novel: np.ndarray, seed: int) -> np.ndarray:
    """Hash transitions to sample them [n], not negative; each (user, novel) is unique."""
    return (mix(stable_hash(user_ids, seed) ^ mix(novel, 0), seed) >> np.uint64(1)).view(np.int64)


def lowest_hashes(
    sequences: pa.Table, clusters: np.ndarray, cut: int | None, seed: int, count: int
) -> np.ndarray:
    """Return the `count` lowest hashes of the evaluated transitions, ascending."""
    mined = on_side_of_cut(mine_transitions(sequences, clusters), "test", cut)
    found = hashes(mined[col.USER_ID].combine_chunks(), mined[col.NOVEL].to_numpy(), seed)
    return np.sort(found)[:count]


def draw_test_cases(
    sequences: pa.Table,
    clusters: np.ndarray,
    item_ids: pa.Array,
    cut: int | None,
    seed: int,
    highest: int,
) -> pa.Table:
    """Return the TEST_CASES: the transitions with hashes up to `highest`."""
    mined, recent = mine_with_recent(sequences, clusters)
    of_recent = pa.FixedSizeListArray.from_arrays(recent.ravel(), RECENT)
    mined = on_side_of_cut(mined.append_column(col.RECENT, of_recent), "test", cut)
    found = hashes(mined[col.USER_ID].combine_chunks(), mined[col.NOVEL].to_numpy(), seed)
    drawn = mined.filter(pa.array(found <= highest))
    histories, first_items, known = [], [], []
    at = pc.index_in(drawn[col.USER_ID], value_set=sequences[col.USER_ID].combine_chunks())
    for row, novel in zip(at.to_pylist(), drawn[col.NOVEL].to_pylist(), strict=True):
        items = sequences[col.ITEMS_OF_USER][row].values.to_numpy()
        first = int(np.argmax(clusters[items] == novel))
        histories.append(items[:first])
        known.append(np.unique(clusters[items[:first]]))
        first_items.append(int(items[first]))
    lists = pa.table({col.ITEMS_OF_USER: pa.array(histories, pa.list_(pa.int32()))})
    columns = {
        **{name: drawn[name] for name in (col.USER_ID, col.C1, col.C2, col.NOVEL, col.RECENT)},
        col.ITEM: pa.array(first_items, pa.int32()),
        col.KNOWN: pa.array(known, pa.list_(pa.int32())),
        col.ITEM_IDS: item_ids_of(lists, item_ids),
    }
    return pa.table(columns).select(TEST_CASES.names).cast(TEST_CASES).combine_chunks()


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
