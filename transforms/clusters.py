"""Items into clusters: embedding, traffic, the tree, and the clusters' names."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.cluster_descriptions import describe_clusters, description
from models.cluster_matching import Match, match_clusters, renumbered
from models.cluster_quality import coherence, separation
from models.clustering import ClusterTree, assign_clusters, fit_cluster_tree
from models.language_model import load_tokenizer
from models.text_encoder import TextEncoder
from models.traffic_sample import sample_keys, smallest, times_drawn
from transforms import files
from transforms import schemas as col
from transforms.errors import InputError, as_input_error
from transforms.manifest import Tally
from transforms.sharding import stable_hash

log = logging.getLogger("interest-explorer")

ITEMS_WITH_TRAFFIC = col.ITEMS.append(pa.field(col.TRAFFIC, pa.float64()))
TREE_SAMPLE = pa.schema(
    {
        col.ITEM_ID: pa.string(),
        col.EMBEDDING: pa.list_(pa.float32()),
        col.TRAFFIC: pa.float64(),
    }
)
TRAFFIC_COUNTS = pa.schema({col.ITEM_ID: pa.string(), col.TRAFFIC: pa.float64()})
_ENCODE_ROWS = 512


def count_traffic(interactions: pa.Table, item_ids: pa.Array) -> pa.Table:
    """Count the interactions of each item of the catalogue that has any; TRAFFIC_COUNTS."""
    counts = np.bincount(interactions[col.ITEM].to_numpy(), minlength=len(item_ids))
    there = np.flatnonzero(counts)
    return pa.table(
        [item_ids.take(pa.array(there)), counts[there].astype(np.float64)], schema=TRAFFIC_COUNTS
    )


def add_traffic(items: pa.Table, counts: pa.Table) -> pa.Table:
    """Give each item the sum of its traffic counts, 0 without any; ITEMS_WITH_TRAFFIC by id."""
    sums = counts.group_by([col.ITEM_ID]).aggregate([(col.TRAFFIC, "sum")])
    at = pc.index_in(items[col.ITEM_ID], value_set=sums[col.ITEM_ID].combine_chunks())
    traffic = pc.fill_null(sums[f"{col.TRAFFIC}_sum"].combine_chunks().take(at), 0.0)
    return items.append_column(ITEMS_WITH_TRAFFIC.field(col.TRAFFIC), traffic).sort_by(col.ITEM_ID)


def item_texts(items: pa.Table) -> list[str]:
    """Return what an item is called and about, as one text each."""
    return [
        " | ".join(part for part in (title, ", ".join(keywords or []), text) if part)
        for title, keywords, text in zip(
            items[col.TITLE].to_pylist(),
            items[col.KEYWORDS].to_pylist(),
            items[col.TEXT].to_pylist(),
            strict=True,
        )
    ]


def embeddings_of(items: pa.Table) -> np.ndarray:
    """Return the embeddings of items [items, dimension] float32.

    Raises
    ------
    InputError
        If they have different lengths.
    """
    column = items[col.EMBEDDING].combine_chunks()
    lengths = pc.value_counts(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        found = ", ".join(f"{one['values']} ({one['counts']:,} items)" for one in lengths)
        raise InputError(f"the embeddings of the items have different lengths: {found}")
    return pc.list_flatten(column).to_numpy().reshape(len(column), -1)


@dataclass(eq=False)
class EmbedItems(beam.PTransform):
    """(shard, ITEMS_WITH_TRAFFIC) -> the same with an embedding of each item's text."""

    encoder: str

    def expand(
        self, items: beam.PCollection[tuple[int, pa.Table]]
    ) -> beam.PCollection[tuple[int, pa.Table]]:
        from transforms.inference import BatchHandler, RunInference

        name = self.encoder
        handler = BatchHandler(lambda: _load(name), _embed)
        return (
            items
            # Before the encoder, so that a retried bundle gets the same batches.
            | "Spread" >> beam.Reshuffle()
            | "Encode" >> RunInference(handler).with_output_types(tuple[int, pa.Table])
        )


def _load(encoder: str) -> TextEncoder:
    with as_input_error("--text_encoder: "):
        return TextEncoder(encoder)


def _embed(encoder: TextEncoder, sharded: tuple[int, pa.Table]) -> tuple[int, pa.Table]:
    shard, items = sharded
    texts = item_texts(items)
    parts, begun = [np.empty((0, encoder.dimension), np.float32)], time.monotonic()
    for start in range(0, len(texts), _ENCODE_ROWS):
        parts.append(encoder.encode(texts[start : start + _ENCODE_ROWS]))
        done = min(start + _ENCODE_ROWS, len(texts))
        left = (time.monotonic() - begun) / done * (len(texts) - done)
        log.info(
            "build_clusters: part %d: %s of %s items embedded, %.0f s left",
            shard,
            f"{done:,}",
            f"{len(texts):,}",
            left,
        )
    Metrics.counter("build_clusters", "items_embedded").inc(len(texts))
    vectors = np.concatenate(parts)  # [items, dimension]
    at = items.schema.get_field_index(col.EMBEDDING)
    return shard, items.set_column(at, col.ITEMS.field(col.EMBEDDING), _lists(vectors))


def _lists(rows: np.ndarray) -> pa.ListArray:
    """Return an array [rows, width] as a column of lists."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))


def weighted_sample(items: pa.Table, size: int, seed: int) -> pa.Table:
    """Draw items by traffic: size + 1 of them, as `fit_tree` needs, or all if there are fewer.

    The sample of a union is the sample of the samples of its parts.
    """
    kept = smallest(_keys(items, seed), size)
    return items if len(kept) == items.num_rows else items.take(pa.array(kept))


def _keys(items: pa.Table, seed: int) -> np.ndarray:
    return sample_keys(stable_hash(items[col.ITEM_ID], seed), items[col.TRAFFIC].to_numpy())


@dataclass(frozen=True)
class FittedClusters:
    """A tree of clusters, what of an earlier one it kept, and how good it is.

    Attributes
    ----------
    tree
        Its clusters have the ids of the earlier ones that they are most like.
    names
        Per level, the keywords of clusters that did not change since the earlier run.
    mapping
        CLUSTER_MAPPING; no rows without an earlier run.
    figures
        Of the manifest; measured on the sample, with items counted by traffic.
    """

    tree: ClusterTree
    names: tuple[dict[int, list[str]], ...]
    mapping: pa.Table
    figures: dict[str, Any]


def fit_tree(
    sample: pa.Table, sizes: Sequence[int], size: int, seed: int, previous: str | None
) -> FittedClusters:
    """Fit the tree of clusters.

    Parameters
    ----------
    sample
        TREE_SAMPLE, from `weighted_sample` with the same size and seed, sorted by id.
    sizes
        Numbers of clusters, coarse to fine.
    size
        Of the sample.
    seed
        Of the sample.
    previous
        Folder of the clusters of an earlier run to begin with.

    Raises
    ------
    InputError
        If there are too few items for so many clusters, or none that the earlier run knows.
    """
    if sample.num_rows < max(sizes):
        raise InputError(
            f"--clusters={','.join(map(str, sizes))}: {max(sizes)} clusters need at least as many "
            f"items, and only {sample.num_rows} can be used; ask for fewer clusters"
        )
    times = times_drawn(_keys(sample, seed), sample[col.TRAFFIC].to_numpy(), size)
    sample, times = sample.filter(pa.array(times > 0)), times[times > 0]
    rows, traffic = embeddings_of(sample), sample[col.TRAFFIC].to_numpy()
    earlier = None if previous is None else read_previous(previous, sample[col.ITEM_ID])
    start = None if earlier is None else (earlier.cluster_ids[:, -1], earlier.parents)
    with as_input_error(f"--clusters={','.join(map(str, sizes))}: "):
        tree = fit_cluster_tree(rows, traffic, sizes, times, start)
    cluster_ids = assign_clusters(tree, rows)
    weights = times * traffic if traffic.any() else times
    figures = {
        "coherence": [round(coherence(rows, of, weights), 4) for of in cluster_ids.T],
        "separation": [round(separation(rows, of, weights), 4) for of in cluster_ids.T],
    }
    if earlier is None:
        none: tuple[dict[int, list[str]], ...] = tuple({} for _ in sizes)
        return FittedClusters(tree, none, col.CLUSTER_MAPPING.empty_table(), figures)
    known = earlier.cluster_ids[:, 0] >= 0
    matches = [
        match_clusters(old[known], new[known], count)
        for old, new, count in zip(earlier.cluster_ids.T, cluster_ids.T, sizes, strict=True)
    ]
    names = tuple(
        {int(at): of_level[at] for at in match.old_ids[match.unchanged]}
        for of_level, match in zip(earlier.keywords, matches, strict=True)
    )
    return FittedClusters(renumbered(tree, matches), names, cluster_mapping(matches[-1]), figures)


def cluster_mapping(match: Match) -> pa.Table:
    """List what became of each cluster: CLUSTER_MAPPING by id, those that are gone before new."""
    same = set(match.old_ids[match.unchanged].tolist())
    changed = [number for number in range(len(match.old_ids)) if number not in same]
    nulls = [None] * len(changed)
    return pa.table(
        [[*sorted(same), *changed, *nulls], [*sorted(same), *nulls, *changed]],
        schema=col.CLUSTER_MAPPING,
    )


@dataclass(frozen=True)
class PreviousClusters:
    """The clusters of an earlier run.

    Attributes
    ----------
    cluster_ids
        [items, levels] int64 of the items asked for; -1 for those it did not know.
    parents
        Per level [n_level] int32, -1 at level 0.
    keywords
        Per level, of each cluster.
    """

    cluster_ids: np.ndarray
    parents: tuple[np.ndarray, ...]
    keywords: tuple[list[list[str]], ...]


def read_previous(folder: str, item_ids: pa.ChunkedArray) -> PreviousClusters:
    """Read the clusters of an earlier run and those of its items that are asked for.

    Raises
    ------
    InputError
        If it knew none of the items.
    """
    clusters = files.read_parquet(files.join(folder, "clusters.parquet"), col.CLUSTERS)
    levels = [
        clusters.filter(pc.equal(clusters[col.LEVEL], level))
        for level in sorted(pc.unique(clusters[col.LEVEL]).to_pylist())
    ]
    items = files.read_parquet(files.join(folder, "item_clusters", "*.parquet"), col.ITEM_CLUSTERS)
    at = pc.index_in(item_ids, value_set=items[col.ITEM_ID].combine_chunks())
    known = pc.is_valid(at).to_numpy()
    if not known.any():
        raise InputError(
            f"--previous: {folder} knows none of the items; name the workspace of an earlier run "
            "on these items, or leave it out"
        )
    lists = items[col.CLUSTER_IDS].combine_chunks().take(pc.drop_null(at).combine_chunks())
    cluster_ids = np.full((len(known), len(levels)), -1)
    cluster_ids[known] = pc.list_flatten(lists).to_numpy().reshape(-1, len(levels))
    return PreviousClusters(
        cluster_ids,
        tuple(pc.fill_null(of[col.PARENT_ID], -1).to_numpy() for of in levels),
        tuple(of[col.KEYWORDS].to_pylist() for of in levels),
    )


def assign(items: pa.Table, tree: ClusterTree) -> pa.Table:
    """Replace the embedding of items by their clusters, one of each level."""
    ids = (
        assign_clusters(tree, embeddings_of(items))
        if items.num_rows
        else np.empty((0, len(tree.sizes)), np.int32)
    )
    return items.drop_columns([col.EMBEDDING]).append_column(
        col.ITEM_CLUSTERS.field(col.CLUSTER_IDS), _lists(ids)
    )


ASSIGNED = pa.schema(
    [field for field in ITEMS_WITH_TRAFFIC if field.name != col.EMBEDDING]
    + [col.ITEM_CLUSTERS.field(col.CLUSTER_IDS)]
)


def first_tokens(tokenizer: Any, keywords: Sequence[str]) -> list[int]:
    """Return the first token of a completion that begins with a keyword, for each keyword.

    As in a description after the newline that ends a prompt: with a comma behind it.
    """
    newline, *ids = tokenizer(
        ["\n", *(f"\n{keyword}," for keyword in keywords)], add_special_tokens=False
    )["input_ids"]
    return [row[len(newline)] for row in ids]


def cluster_table(
    assigned: pa.Table, fitted: FittedClusters, keyword_count: int, base_model: str
) -> pa.Table:
    """Name and measure the clusters of every level.

    Parameters
    ----------
    assigned
        All items as `assign` leaves them.
    fitted
        Their clusters; those that have a name already keep it.
    base_model
        The language model that will read the names: no two begin with the same token of it, as far
        as keywords reach.

    Returns
    -------
    CLUSTERS, sorted by level and id.

    Raises
    ------
    InputError
        If the base model has no tokenizer that can be loaded.
    """
    with as_input_error("--base_model: "):
        tokenizer = load_tokenizer(base_model)
    tokens_of = partial(first_tokens, tokenizer)
    ids = pc.list_flatten(assigned[col.CLUSTER_IDS]).to_numpy().reshape(assigned.num_rows, -1)
    traffic = assigned[col.TRAFFIC].to_numpy()
    keywords = [words or [] for words in assigned[col.KEYWORDS].to_pylist()]
    texts = [
        " ".join(part for part in parts if part)
        for parts in zip(
            assigned[col.TITLE].to_pylist(), assigned[col.TEXT].to_pylist(), strict=True
        )
    ]
    levels = []
    for level, size in enumerate(fitted.tree.sizes):
        cluster = ids[:, level]
        kept = fitted.names[level]
        names = describe_clusters(
            cluster, size, keywords, texts, traffic, tokens_of, keyword_count, kept
        )
        parents = [None] * size if level == 0 else fitted.tree.parents[level].tolist()
        levels.append(
            pa.table(
                [
                    pa.array(np.full(size, level, np.int32)),
                    pa.array(np.arange(size, dtype=np.int32)),
                    pa.array(parents, pa.int32()),
                    pa.array([description(words) for words in names], pa.string()),
                    pa.array(names, pa.list_(pa.string())),
                    pa.array(np.bincount(cluster, minlength=size), pa.int64()),
                    pa.array(np.bincount(cluster, traffic, size), pa.float64()),
                ],
                schema=col.CLUSTERS,
            )
        )
    return pa.concat_tables(levels).combine_chunks()


def quality_tally(clusters: pa.Table, fitted: FittedClusters) -> Tally:
    """Say how good the clusters of each level are, and return it for the manifest."""
    balances = []
    for level, size in enumerate(fitted.tree.sizes):
        traffic = clusters.filter(pc.equal(clusters[col.LEVEL], level))[col.TRAFFIC].to_numpy()
        balances.append(round(float(traffic.max() / traffic.mean()), 4) if traffic.any() else 1.0)
        log.info(
            "build_clusters: level %d: %d clusters, largest / mean traffic %.2f, coherence %.3f, "
            "separation %.3f",
            level,
            size,
            balances[-1],
            fitted.figures["coherence"][level],
            fitted.figures["separation"][level],
        )
    figures: dict[str, Any] = {"balance": balances}
    for name, values in fitted.figures.items():
        figures[name] = [None if np.isnan(value) else value for value in values]
    if fitted.mapping.num_rows:
        figures["unchanged"] = [len(names) for names in fitted.names]
        log.info(
            "build_clusters: clusters that did not change since --previous, per level: %s",
            figures["unchanged"],
        )
    return Tally(figures=figures)
