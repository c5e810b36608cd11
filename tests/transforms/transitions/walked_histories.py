"""Small histories, and what a walk through each finds."""

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from models.interests.recent_pairs import RECENT
from transforms import schemas as col

CLUSTERS = np.array([0, 0, 1, 1, 2, 3], np.int32)  # of six items
M = 4
ITEM_IDS = pa.array([f"item {number}" for number in range(len(CLUSTERS))])
histories = st.lists(
    st.lists(st.integers(0, len(CLUSTERS) - 1), min_size=1, max_size=10), min_size=1, max_size=6
)


def sequences(rows: list[list[int]]) -> pa.Table:
    """Return SEQUENCES of users u0, u1, ...; the nth event is at second n."""
    return pa.table(
        [
            pa.array([f"u{number}" for number in range(len(rows))]),
            pa.array([[n * 1_000_000 for n in range(len(row))] for row in rows]),
            pa.array(rows),
        ],
        names=col.SEQUENCES.names,
    ).cast(col.SEQUENCES)


def walked(rows: list[list[int]], cut: int) -> list[tuple]:
    """Return (user, c1, c2, novel, known, recent, item, history) of each from the cut on."""
    found = []
    for number, row in enumerate(rows):
        recent: list[int] = []  # clusters, the latest engagement last
        for second, item in enumerate(row):
            cluster = int(CLUSTERS[item])
            if recent and cluster not in recent and second >= cut:
                pair = recent[-2:] if len(recent) > 1 else recent * 2
                newest = (recent[::-1] + recent[:1] * RECENT)[:RECENT]
                of_user = (f"u{number}", *pair, cluster, set(recent), newest)
                found.append((*of_user, item, row[:second]))
            recent = [*(c for c in recent if c != cluster), cluster]
    return found
