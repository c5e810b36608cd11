"""What a log can teach, known before anything is built from it."""

from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from transforms import schemas as col

SESSION_MINUTES = 30  # without an engagement, after which the next one begins a session
ITEMS_PER_CLUSTER = 10  # as `build_clusters --min_items_per_cluster`
# Thirty times what `mine_transitions` draws of each: there are fewer than `most_transitions`
# says, and valid and test users keep theirs.
TRANSITIONS_PER_CLUSTER = 300
CLUSTERS = (12, 24, 48, 96, 192, 384, 768)  # numbers of clusters to choose from
_MOST = 10_000  # engagements of a user, in the histograms
_SESSION = SESSION_MINUTES * 60_000_000  # microseconds
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class LogFacts:
    """Facts about SEQUENCES that add up."""

    engagements: int
    repeated: int  # engagements with an item that the user had engaged with before
    sessions: int
    first: int  # microseconds since 1970
    last: int
    lengths: NDArray[np.int64]  # [_MOST + 1] users by their number of engagements
    distinct: NDArray[np.int64]  # [_MOST + 1] users by their number of distinct items
    items: NDArray[np.int64]  # [items] engagements

    def __add__(self, other: "LogFacts") -> "LogFacts":
        sums = {
            one.name: getattr(self, one.name) + getattr(other, one.name) for one in fields(self)
        }
        return LogFacts(
            **sums | {"first": min(self.first, other.first), "last": max(self.last, other.last)}
        )

    @property
    def users(self) -> int:
        """Return the number of users."""
        return int(self.lengths.sum())

    def quantile(self, share: float) -> int:
        """Return how many engagements this share of the users have at most."""
        return int(np.searchsorted(np.cumsum(self.lengths), share * self.users))


def log_facts(sequences: pa.Table, items: int) -> LogFacts:
    """Return the facts about SEQUENCES of a catalogue of some items."""
    lengths = pc.list_value_length(sequences[col.ITEMS_OF_USER]).to_numpy().astype(np.int64)
    user = np.repeat(np.arange(len(lengths)), lengths)
    times = pc.list_flatten(sequences[col.TIMESTAMPS]).cast(pa.int64()).to_numpy()
    engaged = pc.list_flatten(sequences[col.ITEMS_OF_USER]).to_numpy().astype(np.int64)
    goes_on = (user[1:] == user[:-1]) & (times[1:] - times[:-1] <= _SESSION)
    pairs = np.unique(user * items + engaged)
    return LogFacts(
        engagements=len(user),
        repeated=len(user) - len(pairs),
        sessions=len(user) - int(goes_on.sum()),
        first=int(times.min(initial=_NEVER)),
        last=int(times.max(initial=-_NEVER)),
        lengths=_histogram(lengths),
        distinct=_histogram(np.bincount(pairs // items, minlength=len(lengths))),
        items=np.bincount(engaged, minlength=items),
    )


def _histogram(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.bincount(np.minimum(counts, _MOST), minlength=_MOST + 1)


def most_transitions(facts: LogFacts, clusters: int) -> int:
    """Return the transitions that are expected if items were in clusters by chance.

    A user with n distinct items then knows M (1 - (1 - 1/M)^n) of M clusters, and each but the
    first is a transition. Users keep to their tastes, so there will be fewer.
    """
    known = clusters * (1 - (1 - 1 / clusters) ** np.arange(_MOST + 1))
    return round(float(facts.distinct @ np.maximum(known - 1, 0)))


def supported_clusters(facts: LogFacts) -> list[int]:
    """Return sizes for --clusters, coarse to fine; none if the log supports no clusters.

    The finest clusters have `ITEMS_PER_CLUSTER` items that users engage with, and
    `TRANSITIONS_PER_CLUSTER` transitions, of those that `most_transitions` expects.
    """
    engaged_items = int(np.count_nonzero(facts.items))
    fitting = [
        clusters
        for clusters in CLUSTERS
        if clusters * ITEMS_PER_CLUSTER <= engaged_items
        and clusters * TRANSITIONS_PER_CLUSTER <= most_transitions(facts, clusters)
    ]
    if not fitting:
        return []
    levels = (fitting[-1] // size for size in (8, 4, 2, 1))
    return [clusters for clusters in levels if clusters >= 3]
