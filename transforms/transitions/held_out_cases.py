"""Held-out transitions, drawn by hash, with the history of the user before each."""

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.interests.recent_pairs import RECENT
from transforms import schemas as col
from transforms.tables.sharding import mix, stable_hash
from transforms.transitions.mine import mine_transitions
from transforms.transitions.splits import on_side_of_cut
from transforms.transitions.user_sequences import item_ids_of

# Transitions (c1, c2) -> novel, the first item of novel, the
# clusters and the items before it, and `Transitions.recent`.
CASES = pa.schema(
    {
        **{name: col.TRANSITIONS.field(name).type for name in (col.USER_ID, col.C1, col.C2)},
        col.NOVEL: pa.int32(),
        col.ITEM: pa.int32(),
        col.KNOWN: pa.list_(pa.int32()),
        col.RECENT: pa.list_(pa.int32(), RECENT),
        col.ITEM_IDS: pa.list_(pa.string()),
    }
)


@dataclass(eq=False)
class DrawCases(beam.PTransform):
    """SEQUENCES -> CASES: at most `count` of their transitions from the cut on."""

    item_clusters: beam.PCollection  # of one tuple: the ids and the clusters of the items
    cut: int | None  # microseconds since 1970
    seed: int
    count: int

    def expand(self, sequences: beam.PCollection[pa.Table]) -> beam.PCollection[pa.Table]:
        item_clusters = beam.pvalue.AsSingleton(self.item_clusters)
        cut, seed, count = self.cut, self.seed, self.count
        highest = (
            sequences
            | "Hashes"
            >> beam.Map(
                lambda part, items: lowest_hashes(part, items[1], cut, seed, count), item_clusters
            )
            | "Lowest" >> beam.CombineGlobally(lambda parts: _lowest(parts, count))
            | "Highest" >> beam.Map(lambda hashes: int(hashes[-1]) if len(hashes) else 0)
        )
        return sequences | "Draw" >> beam.Map(
            lambda part, items, highest: draw_cases(part, items[1], items[0], cut, seed, highest),
            item_clusters,
            beam.pvalue.AsSingleton(highest),
        ).with_output_types(pa.Table)


def _lowest(parts: Iterable[np.ndarray], count: int) -> np.ndarray:
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))[:count]


def mine_with_recent(sequences: pa.Table, clusters: np.ndarray) -> tuple[pa.Table, np.ndarray]:
    """Mine TRANSITIONS, and `CASES.recent` of each."""
    mined = mine_transitions(sequences, clusters, RECENT)
    newest_first = [mined[f"c{RECENT - rank}"] for rank in range(RECENT)]
    columns = {name: mined[name] for name in col.TRANSITIONS.names}
    columns |= {col.C1: newest_first[1], col.C2: newest_first[0]}
    recent = np.stack([column.to_numpy() for column in newest_first], axis=1)
    return pa.table(columns), recent


def hashes(user_ids: pa.Array, novel: np.ndarray, seed: int) -> np.ndarray:
    """Hash transitions to sample them [n], not negative; each (user, novel) is unique."""
    return (mix(stable_hash(user_ids, seed) ^ mix(novel, 0), seed) >> np.uint64(1)).view(np.int64)


def lowest_hashes(
    sequences: pa.Table, clusters: np.ndarray, cut: int | None, seed: int, count: int
) -> np.ndarray:
    """Return the `count` lowest hashes of the transitions from the cut on, ascending."""
    mined = on_side_of_cut(mine_transitions(sequences, clusters), "test", cut)
    found = hashes(mined[col.USER_ID].combine_chunks(), mined[col.NOVEL].to_numpy(), seed)
    return np.sort(found)[:count]


def draw_cases(
    sequences: pa.Table,
    clusters: np.ndarray,
    item_ids: pa.Array,
    cut: int | None,
    seed: int,
    highest: int,
) -> pa.Table:
    """Return the CASES: the transitions with hashes up to `highest`."""
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
    return pa.table(columns).select(CASES.names).cast(CASES).combine_chunks()


def known_clusters(cases: pa.Table, size: int) -> np.ndarray:
    """Return which of M = `size` clusters the users of CASES knew, [n, M]."""
    lists = cases[col.KNOWN]
    known = np.zeros((cases.num_rows, size), bool)
    rows = np.repeat(np.arange(cases.num_rows), pc.list_value_length(lists).to_numpy())
    known[rows, pc.list_flatten(lists).to_numpy()] = True
    return known
