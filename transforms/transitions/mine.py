"""Mining: from the engagements of users to transitions between interest clusters."""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.interests.recent_pairs import recent_clusters, run_starts
from transforms import schemas as col
from transforms.inputs.interactions import before, from_on
from transforms.tables.sharding import stable_hash

SPLITS = ("train", "valid", "test")
_ID_BITS = 21  # of a cluster id when three of them are packed into one integer


def mine_transitions(sequences: pa.Table, clusters: np.ndarray, earlier: int = 2) -> pa.Table:
    """Find every transition ((c1, ..., cK) -> novel) of users.

    A transition is the first engagement of a user with a cluster, when the user engaged with
    other clusters before; c1, ..., cK are the K clusters with the latest engagements before it,
    older first. Where there are fewer, the oldest stands in for the missing ones.

    Parameters
    ----------
    sequences
        SEQUENCES, each user once, items in order.
    clusters
        [items] int32, the cluster of each item of the catalogue.
    earlier
        K, at least 1.

    Returns
    -------
    user_id, c1 to cK, novel and the timestamp of the first engagement, in the order of users and
    time: TRANSITIONS for K = 2.
    """
    lengths = pc.list_value_length(sequences[col.ITEMS_OF_USER]).to_numpy()
    user = np.repeat(np.arange(len(lengths)), lengths)
    cluster = clusters[pc.list_flatten(sequences[col.ITEMS_OF_USER]).to_numpy()].astype(np.int64)
    times = pc.list_flatten(sequences[col.TIMESTAMPS]).to_numpy()

    begins = run_starts(user, cluster)
    user, cluster, times = user[begins], cluster[begins], times[begins]
    same_user = np.zeros(len(user), bool)  # as the run before
    same_user[1:] = user[1:] == user[:-1]
    at = _first_of_each((user << _ID_BITS) | cluster)
    at = at[same_user[at]]
    recent = recent_clusters(user, cluster, at - 1, earlier)
    ids = {f"c{earlier - rank}": found for rank, found in enumerate(recent.T)} | {
        col.NOVEL: cluster[at]
    }
    return pa.table(
        {
            col.USER_ID: sequences[col.USER_ID].combine_chunks().take(pa.array(user[at])),
            **{name: pa.array(ids[name], pa.int32()) for name in sorted(ids)},
            col.TIMESTAMP: pa.array(times[at]).cast(col.TIME_TYPE),
        }
    )


def _first_of_each(key: np.ndarray) -> np.ndarray:
    """Return the positions at which each key occurs for the first time, ascending."""
    order = np.argsort(key)
    return np.sort(np.minimum.reduceat(order, _starts(key[order]))) if len(key) else order


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Return the positions at which runs of equal values begin."""
    return np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])


def split_users(user_ids: pa.Array, valid_share: float, test_share: float, seed: int) -> pa.Array:
    """Put each user in one split, by a hash of the id.

    Returns
    -------
    [users] string: train, valid or test.
    """
    point = stable_hash(user_ids, seed) / 2.0**64  # uniform in [0, 1)
    split = np.where(point < valid_share, 1, np.where(point < valid_share + test_share, 2, 0))
    return pa.array(SPLITS).take(pa.array(split))


def count_transitions(transitions: pa.Table) -> pa.Table:
    """Count the users of each (c1, c2, novel); a user makes each transition once at most.

    Returns
    -------
    TRANSITION_COUNTS, sorted by (novel, c1, c2).
    """
    key = np.sort(pack(transitions))
    starts = _starts(key)
    return _counts(key[starts], np.diff(starts, append=len(key)))


def sum_counts(counts: pa.Table) -> pa.Table:
    """Add up counts of parts of the users; TRANSITION_COUNTS in and out."""
    key = pack(counts)
    order = np.argsort(key)
    key, users = key[order], counts[col.USERS].to_numpy()[order]
    starts = _starts(key)
    return _counts(key[starts], np.add.reduceat(users, starts) if len(starts) else users)


def pack(table: pa.Table) -> np.ndarray:
    """Return (novel, c1, c2) of each row as one integer that sorts as they do, [rows] int64."""
    novel, c1, c2 = (
        table[name].to_numpy().astype(np.int64) for name in (col.NOVEL, col.C1, col.C2)
    )
    return (novel << 2 * _ID_BITS) | (c1 << _ID_BITS) | c2


def _counts(key: np.ndarray, users: np.ndarray) -> pa.Table:
    mask = (1 << _ID_BITS) - 1
    ids = ((key >> _ID_BITS) & mask, key & mask, key >> 2 * _ID_BITS)  # c1, c2, novel
    return pa.table([*(pa.array(one, pa.int32()) for one in ids), users], col.TRANSITION_COUNTS)


def user_splits(sequences: pa.Table, valid_share: float, test_share: float, seed: int) -> pa.Table:
    """Return the USER_SPLITS of the users of SEQUENCES."""
    users = sequences[col.USER_ID]
    split = split_users(users, valid_share, test_share, seed)
    return pa.table([users, split], schema=col.USER_SPLITS)


def on_side_of_cut(transitions: pa.Table, split: str, cut: int | None) -> pa.Table:
    """Keep the TRANSITIONS of a split that are on its side of a cut in time.

    Those of train are before it, so that nothing after it is learned; valid and test are asked for
    what came after. Their pair (c1, c2) may be from before.

    Parameters
    ----------
    cut
        Microseconds since 1970; None keeps all.
    """
    return before(transitions, cut) if split == "train" else from_on(transitions, cut)


def mine_by_split(
    sequences: pa.Table,
    clusters: np.ndarray,
    valid_share: float,
    test_share: float,
    seed: int,
    cut: int | None,
) -> Iterator[beam.pvalue.TaggedOutput]:
    """Mine SEQUENCES.

    The transitions of each split's users, on its side of the cut, come out by its name.
    """
    split_of = user_splits(sequences, valid_share, test_share, seed)[col.SPLIT]
    for split in SPLITS:
        mined = mine_transitions(sequences.filter(pc.equal(split_of, split)), clusters)
        of_split = on_side_of_cut(mined, split, cut)
        Metrics.counter("mine_transitions", f"{split}_transitions").inc(of_split.num_rows)
        yield beam.pvalue.TaggedOutput(split, of_split)
