"""Mining: from the engagements of users to transitions between interest clusters."""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.interactions import before, from_on
from transforms.sharding import stable_hash

CLUSTER = "cluster"
SPLITS = ("train", "valid", "test")
ENGAGEMENTS = pa.schema(
    {
        col.USER_ID: pa.string(),
        col.ITEM_ID: pa.string(),
        col.TIMESTAMP: col.TIME_TYPE,
        CLUSTER: pa.int32(),
    }
)
_ORDER = [(col.USER_ID, "ascending"), (col.TIMESTAMP, "ascending"), (col.ITEM_ID, "ascending")]
_ID_BITS = 21  # of a cluster id when it is packed into one integer with its user


def engagements(interactions: pa.Table, clusters: np.ndarray) -> pa.Table:
    """Give each interaction the cluster of its item.

    Parameters
    ----------
    interactions
        INTERACTIONS.
    clusters
        [items] int32.
    """
    cluster = pa.array(clusters[interactions[col.ITEM].to_numpy()], pa.int32())
    return interactions.select([col.USER_ID, col.ITEM_ID, col.TIMESTAMP]).append_column(
        CLUSTER, cluster
    )


def mine_transitions(table: pa.Table) -> pa.Table:
    """Find every transition ((c1, c2) -> novel) of the users in a table.

    A transition is the first engagement of a user with a cluster, when the user engaged with
    other clusters before; (c1, c2) are the two clusters with the latest engagements before it,
    older first, or the only one twice.

    Once runs of one cluster are folded, the row before a first engagement holds the latest other
    cluster, and the row before that one the second latest.

    Parameters
    ----------
    table
        ENGAGEMENTS in any order, all rows of each user.

    Returns
    -------
    TRANSITIONS, sorted by user and time.
    """
    table = table.sort_by(_ORDER).combine_chunks()
    cluster = table[CLUSTER].to_numpy()
    users = table[col.USER_ID].combine_chunks().dictionary_encode()
    user = users.indices.to_numpy(zero_copy_only=False).astype(np.int64)

    begins = np.ones(len(user), bool)  # of a run of one user in one cluster
    begins[1:] = (user[1:] != user[:-1]) | (cluster[1:] != cluster[:-1])
    user, cluster = user[begins], cluster[begins]
    time = table[col.TIMESTAMP].combine_chunks().filter(pa.array(begins))
    _, first = np.unique((user << _ID_BITS) | cluster, return_index=True)
    is_first = np.zeros(len(user), bool)
    is_first[first] = True
    same_user = np.zeros(len(user), bool)  # as the row before
    same_user[1:] = user[1:] == user[:-1]
    same_user_2 = np.zeros(len(user), bool)  # as the row before that
    same_user_2[2:] = user[2:] == user[:-2]

    at = np.flatnonzero(is_first & same_user)
    c2 = cluster[at - 1]
    c1 = np.where(same_user_2[at], cluster[at - 2], c2)
    return pa.table(
        [
            users.dictionary.take(pa.array(user[at])),
            pa.array(c1, pa.int32()),
            pa.array(c2, pa.int32()),
            pa.array(cluster[at], pa.int32()),
            time.take(pa.array(at)),
        ],
        schema=col.TRANSITIONS,
    )


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
    counts = transitions.group_by([col.C1, col.C2, col.NOVEL]).aggregate([([], "count_all")])
    return _sorted(counts.rename_columns([col.C1, col.C2, col.NOVEL, col.USERS]))


def sum_counts(counts: pa.Table) -> pa.Table:
    """Add up counts of parts of the users; TRANSITION_COUNTS in and out."""
    sums = counts.group_by([col.C1, col.C2, col.NOVEL]).aggregate([(col.USERS, "sum")])
    return _sorted(sums.rename_columns([col.C1, col.C2, col.NOVEL, col.USERS]))


def _sorted(counts: pa.Table) -> pa.Table:
    table = counts.sort_by([(name, "ascending") for name in (col.NOVEL, col.C1, col.C2)])
    return table.cast(col.TRANSITION_COUNTS).combine_chunks()


def user_splits(table: pa.Table, valid_share: float, test_share: float, seed: int) -> pa.Table:
    """Return the USER_SPLITS of the users of a table of ENGAGEMENTS, sorted by user."""
    users = pc.unique(table[col.USER_ID]).sort()
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
    table: pa.Table, valid_share: float, test_share: float, seed: int, cut: int | None
) -> Iterator[beam.pvalue.TaggedOutput]:
    """Mine a table of ENGAGEMENTS.

    The transitions of each split's users, on its side of the cut, come out by its name.
    """
    splits = user_splits(table, valid_share, test_share, seed)
    transitions = mine_transitions(table)
    for split in SPLITS:
        users = splits.filter(pc.equal(splits[col.SPLIT], split))[col.USER_ID].combine_chunks()
        of_split = transitions.filter(pc.is_in(transitions[col.USER_ID], value_set=users))
        of_split = on_side_of_cut(of_split, split, cut)
        Metrics.counter("mine_transitions", f"{split}_transitions").inc(of_split.num_rows)
        yield beam.pvalue.TaggedOutput(split, of_split)
