"""The transitions of test users: what every policy is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.interests.recent_pairs import RECENT
from transforms import schemas as col
from transforms.tables.sharding import mix, stable_hash
from transforms.transitions.mine import mine_transitions, on_side_of_cut, split_users
from transforms.transitions.user_sequences import item_ids_of, truncate

_ROWS = 4096  # transitions whose scores are in memory at a time, and those of their last user
_NEVER = np.iinfo(np.int32).max
# What the retriever is asked: (c1, c2) -> novel, the item that opened novel, the clusters and the
# items that were before, and RECENT clusters of them as `Transitions.recent` has them.
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


@dataclass(frozen=True)
class SplitSpec:
    """How `mine_transitions` kept users and times apart.

    Attributes
    ----------
    valid_share, test_share, seed
        Of the users.
    cut
        Microseconds since 1970; None where all times are alike.
    """

    valid_share: float
    test_share: float
    seed: int
    cut: int | None

    def users(self, sequences: pa.Table, split: str) -> pa.Table:
        """Keep the SEQUENCES of the users of a split."""
        return sequences.filter(pc.equal(self._split(sequences), split))

    def learned_from(self, sequences: pa.Table) -> pa.Table:
        """Keep what may be learned from: SEQUENCES before the cut or, without one, of other users.

        Test users are left out where there is no cut.
        """
        if self.cut is not None:
            return truncate(sequences, self.cut)
        kept = sequences.filter(pc.not_equal(self._split(sequences), "test"))
        Metrics.counter("held_out", "test_users_left_out").inc(sequences.num_rows - kept.num_rows)
        return kept

    def _split(self, sequences: pa.Table) -> pa.Array:
        return split_users(sequences[col.USER_ID], self.valid_share, self.test_share, self.seed)


@dataclass(frozen=True, eq=False)
class Transitions:
    """Transitions of some users, and what the users knew.

    Attributes
    ----------
    user_ids
        [users]
    user
        [n] place in `user_ids`.
    c1, c2, novel
        [n]
    recent
        [n, RECENT] clusters with the latest engagements before, the newest first: c2, c1, ...; the
        oldest again where there are fewer.
    place
        [n] how many clusters the user had engaged with before.
    place_of
        [users, M] how many clusters each user had engaged with before each, _NEVER if never.
    """

    user_ids: pa.Array
    user: np.ndarray
    c1: np.ndarray
    c2: np.ndarray
    novel: np.ndarray
    recent: np.ndarray
    place: np.ndarray
    place_of: np.ndarray

    def known(self) -> np.ndarray:
        """Say which clusters the user knew at the time, [n, M]."""
        return self.place_of[self.user] < self.place[:, None]


def mine_with_recent(sequences: pa.Table, clusters: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Mine TRANSITIONS, and `Transitions.recent` of each."""
    mined = mine_transitions(sequences, clusters, RECENT)
    newest_first = [mined[f"c{RECENT - rank}"] for rank in range(RECENT)]
    of_two = mined.select([col.USER_ID, col.NOVEL, col.TIMESTAMP])
    for name, column in ((col.C1, newest_first[1]), (col.C2, newest_first[0])):
        of_two = of_two.append_column(name, column)
    recent = np.stack([column.to_numpy() for column in newest_first], axis=1)
    return of_two.select(col.TRANSITIONS.names), recent


def held_out_transitions(
    sequences: pa.Table, clusters: np.ndarray, size: int, cut: int | None
) -> Iterator[Transitions]:
    """Mine the transitions of test users, and what each user knew at the time of each.

    Parameters
    ----------
    sequences
        SEQUENCES of the test users.
    clusters
        [items] int32, the cluster of each item of the catalogue.
    size
        Clusters there are, M.
    cut
        As `on_side_of_cut`: earlier transitions count as known, and are not asked for.

    Yields
    ------
    Those of some users at a time.
    """
    mined, recent = mine_with_recent(sequences, clusters)
    if not mined.num_rows:
        return
    encoded = mined[col.USER_ID].combine_chunks().dictionary_encode()
    user = encoded.indices.to_numpy().astype(np.int64)  # ascending: in order of appearance
    starts = np.searchsorted(user, np.arange(len(encoded.dictionary)))
    place = np.arange(len(user)) - starts[user] + 1
    c1, c2, novel = (mined[name].to_numpy() for name in (col.C1, col.C2, col.NOVEL))
    asked = np.ones(len(user), bool)
    if cut is not None:
        asked = mined[col.TIMESTAMP].cast(pa.int64()).to_numpy() >= cut
    of_user = np.bincount(user, asked, len(starts)).astype(np.int64)
    group = (np.cumsum(of_user) - of_user) // _ROWS
    for number in range(int(group[-1]) + 1):
        users = np.flatnonzero((group == number) & (of_user > 0))
        if not len(users):
            continue
        at = np.full(len(starts), -1)
        at[users] = np.arange(len(users))
        rows = np.flatnonzero(at[user] >= 0)
        place_of = np.full((len(users), size), _NEVER, np.int32)
        place_of[at[user[rows]], novel[rows]] = place[rows]
        place_of[np.arange(len(users)), c2[starts[users]]] = 0  # what the first transition left
        rows = rows[asked[rows]]
        yield Transitions(
            encoded.dictionary.take(pa.array(users)),
            at[user[rows]],
            *(c1[rows], c2[rows], novel[rows], recent[rows], place[rows]),
            place_of,
        )


def hashes(user_ids: pa.Array, novel: np.ndarray, seed: int) -> np.ndarray:
    """Hash transitions, to draw some: a user makes one transition to a cluster at most.

    Returns
    -------
    [n] int64, not negative.
    """
    return (mix(stable_hash(user_ids, seed) ^ mix(novel, 0), seed) >> np.uint64(1)).view(np.int64)


def lowest_hashes(
    sequences: pa.Table, clusters: np.ndarray, cut: int | None, seed: int, count: int
) -> np.ndarray:
    """Return the `count` lowest hashes of the transitions that are asked for, ascending."""
    mined = on_side_of_cut(mine_transitions(sequences, clusters), "test", cut)
    found = hashes(mined[col.USER_ID].combine_chunks(), mined[col.NOVEL].to_numpy(), seed)
    return np.sort(found)[:count]


def test_case_items(
    sequences: pa.Table,
    clusters: np.ndarray,
    item_ids: pa.Array,
    cut: int | None,
    seed: int,
    highest: int,
) -> pa.Table:
    """Return the transitions with the lowest hashes, with their items.

    Parameters
    ----------
    sequences, clusters, cut, seed
        As `lowest_hashes`.
    item_ids
        [items] of the catalogue.
    highest
        Hash of the last one drawn.

    Returns
    -------
    TEST_CASES
    """
    mined, recent = mine_with_recent(sequences, clusters)
    of_recent = pa.FixedSizeListArray.from_arrays(recent.ravel(), RECENT)
    mined = on_side_of_cut(mined.append_column(col.RECENT, of_recent), "test", cut)
    found = hashes(mined[col.USER_ID].combine_chunks(), mined[col.NOVEL].to_numpy(), seed)
    drawn = mined.filter(pa.array(found <= highest))
    histories, opened, known = [], [], []
    at = pc.index_in(drawn[col.USER_ID], value_set=sequences[col.USER_ID].combine_chunks())
    for row, novel in zip(at.to_pylist(), drawn[col.NOVEL].to_pylist(), strict=True):
        items = sequences[col.ITEMS_OF_USER][row].values.to_numpy()
        first = int(np.argmax(clusters[items] == novel))
        histories.append(items[:first])
        known.append(np.unique(clusters[items[:first]]))
        opened.append(int(items[first]))
    table = drawn.select([col.USER_ID, col.C1, col.C2, col.NOVEL]).append_column(
        col.ITEM, pa.array(opened, pa.int32())
    )
    lists = pa.table({col.ITEMS_OF_USER: pa.array(histories, pa.list_(pa.int32()))})
    for name, column in (
        (col.KNOWN, pa.array(known, pa.list_(pa.int32()))),
        (col.RECENT, drawn[col.RECENT]),
        (col.ITEM_IDS, item_ids_of(lists, item_ids)),
    ):
        table = table.append_column(name, column)
    return table.cast(TEST_CASES).combine_chunks()


def engagements_by_item(sequences: pa.Table, items: int, held_out: SplitSpec) -> np.ndarray:
    """Count the engagements with each item that the retriever learns from, [items]."""
    kept = held_out.learned_from(sequences)
    return np.bincount(pc.list_flatten(kept[col.ITEMS_OF_USER]).to_numpy(), minlength=items)


def users_by_pair(sequences: pa.Table, clusters: np.ndarray, size: int) -> np.ndarray:
    """Count the users whose two latest interests are (c1, c2), [M * M] in row c1 * M + c2.

    c1 is the cluster of the latest engagement with another one than c2; c1 = c2 without any.
    """
    lengths = pc.list_value_length(sequences[col.ITEMS_OF_USER]).to_numpy()
    user = np.repeat(np.arange(len(lengths)), lengths)
    cluster = clusters[pc.list_flatten(sequences[col.ITEMS_OF_USER]).to_numpy()].astype(np.int64)
    last = np.cumsum(lengths) - 1
    newest = cluster[last]
    at = np.where(cluster != newest[user], np.arange(len(user)), -1)  # engagements with others
    older = np.full(len(lengths), -1)
    np.maximum.at(older, user, at)
    c1 = np.where(older >= 0, cluster[older], newest)
    return np.bincount(c1 * size + newest, minlength=size**2)
