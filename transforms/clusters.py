"""Items into clusters: embedding, traffic, the tree, and the clusters' names."""

import functools
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.clustering.cluster_descriptions import describe_clusters, description
from models.clustering.cluster_matching import Match, match_clusters, renumbered
from models.clustering.cluster_quality import coherence, separation
from models.clustering.clustering import ClusterTree, assign_clusters, fit_cluster_tree
from models.clustering.text_encoder import TextEncoder
from models.clustering.traffic_sample import sample_keys, smallest, times_drawn
from models.language.language_model import load_tokenizer
from models.retrieval.item_features import Projection, fit_projection, project
from transforms import files
from transforms import schemas as col
from transforms.errors import InputError, as_input_error
from transforms.manifest import Tally
from transforms.sharding import shards_of, stable_hash
from transforms.shuffle import PARTS, Kept, table_of

log = logging.getLogger("interest-explorer")

ITEMS_WITH_TRAFFIC = col.ITEMS.append(pa.field(col.TRAFFIC, pa.float64()))
_TIMES = "times"  # how many items a sampled one stands for
TREE_SAMPLE = ITEMS_WITH_TRAFFIC.append(pa.field(_TIMES, pa.float64()))
_ENCODE_ROWS = 512
_SECONDS_PER_LINE = 5.0  # of the log


class CountTraffic(beam.CombineFn):
    """Positions of items in the catalogue, [n] integers -> traffic up to the last one, float64."""

    def create_accumulator(self) -> np.ndarray:
        return np.zeros(0)

    def add_input(self, traffic: np.ndarray, items: np.ndarray) -> np.ndarray:
        beyond = int(items.max(initial=-1)) + 1 - len(traffic)
        if beyond > 0:
            traffic = np.append(traffic, np.zeros(beyond))
        np.add.at(traffic, items, 1.0)  # in time of the batch, not of the catalogue
        return traffic

    def merge_accumulators(self, counts: Iterable[np.ndarray]) -> np.ndarray:
        return functools.reduce(_add, counts)

    def extract_output(self, traffic: np.ndarray) -> np.ndarray:
        return traffic


def _add(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    short, long = sorted((one, other), key=len)
    total = long.copy()
    total[: len(short)] += short
    return total


def traffic_of_parts(traffic: np.ndarray, item_ids: pa.Array, parts: int) -> list[np.ndarray]:
    """Split the traffic of items as ShardBy splits the items.

    Parameters
    ----------
    traffic
        [<= items] by position; items beyond have none.
    item_ids
        [items] strings, sorted.
    parts
        Their number.

    Returns
    -------
    Per part, the traffic of its items in the order of their ids, float64.
    """
    of_all = np.zeros(len(item_ids))
    of_all[: len(traffic)] = traffic
    part = shards_of(item_ids, parts)
    ends = np.cumsum(np.bincount(part, minlength=parts))
    return np.split(of_all[np.argsort(part, kind="stable")], ends[:-1])


def add_traffic(items: pa.Table, traffic: np.ndarray) -> pa.Table:
    """Give items their traffic [items]: ITEMS_WITH_TRAFFIC."""
    return items.append_column(ITEMS_WITH_TRAFFIC.field(col.TRAFFIC), pa.array(traffic))


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
    """(part, Kept ITEMS) -> (part, ITEMS) with an embedding of each item's text; PARTS of them."""

    encoder: str

    def expand(self, items: beam.PCollection) -> beam.PCollection[tuple[int, pa.Table]]:
        from transforms.inference import BatchHandler, RunInference

        name = self.encoder
        handler = BatchHandler(lambda: _Embedder(name), lambda model, part: model.embed(*part))
        return (
            items
            # Before the encoder, so that a retried bundle gets the same batches.
            | "Spread" >> beam.Reshuffle()
            | "Encode" >> RunInference(handler).with_output_types(tuple[int, pa.Table])
        )


class _Embedder:
    """A text encoder that says from time to time how far this worker is with it."""

    def __init__(self, encoder: str) -> None:
        with as_input_error("--text_encoder: "):
            self._encoder = TextEncoder(encoder)
        self._parts = self._items = 0
        self._begun = self._logged = time.monotonic()

    def embed(self, part: int, kept: Kept) -> tuple[int, pa.Table]:
        items = table_of(kept)
        texts = item_texts(items)
        batches = [np.empty((0, self._encoder.dimension), np.float32)]
        for start in range(0, len(texts), _ENCODE_ROWS):
            batches.append(self._encoder.encode(texts[start : start + _ENCODE_ROWS]))
            self._items += len(batches[-1])
            self._say()
        self._parts += 1
        Metrics.counter("build_clusters", "items_embedded").inc(len(texts))
        vectors = np.concatenate(batches)  # [items, dimension]
        at = items.schema.get_field_index(col.EMBEDDING)
        return part, items.set_column(at, col.ITEMS.field(col.EMBEDDING), _lists(vectors))

    def _say(self) -> None:
        now = time.monotonic()
        if now - self._logged >= _SECONDS_PER_LINE:
            self._logged = now
            log.info(
                "build_clusters: %d of %d parts embedded, %s items, %.0f a second",
                self._parts,
                PARTS,
                f"{self._items:,}",
                self._items / (now - self._begun),
            )


def _lists(rows: np.ndarray) -> pa.ListArray:
    """Return an array [rows, width] as a column of lists."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))


def weighted_sample(items: pa.Table, size: int, seed: int) -> pa.Table:
    """Draw items by traffic: size + 1 of them, as `drawn` needs, or all if there are fewer.

    The sample of a union is the sample of the samples of its parts.
    """
    kept = smallest(_keys(items, seed), size)
    return items if len(kept) == items.num_rows else items.take(pa.array(kept)).combine_chunks()


def drawn(sample: pa.Table, size: int, seed: int) -> pa.Table:
    """Turn what `weighted_sample` drew with the same size and seed into TREE_SAMPLE."""
    times = times_drawn(_keys(sample, seed), sample[col.TRAFFIC].to_numpy(), size)
    return sample.append_column(TREE_SAMPLE.field(_TIMES), pa.array(times)).filter(
        pa.array(times > 0)
    )


@dataclass(eq=False)
class DrawSample(beam.CombineFn):
    """ITEMS_WITH_TRAFFIC -> TREE_SAMPLE of them all, sorted by id."""

    size: int
    seed: int

    def create_accumulator(self) -> pa.Table:
        return ITEMS_WITH_TRAFFIC.empty_table()

    def add_input(self, sample: pa.Table, items: pa.Table) -> pa.Table:
        return weighted_sample(pa.concat_tables([sample, items]), self.size, self.seed)

    def merge_accumulators(self, samples: Iterable[pa.Table]) -> pa.Table:
        return functools.reduce(self.add_input, samples)

    def extract_output(self, sample: pa.Table) -> pa.Table:
        return drawn(sample.sort_by(col.ITEM_ID), self.size, self.seed)

    def get_accumulator_coder(self) -> beam.coders.Coder:
        return beam.coders.registry.get_coder(pa.Table)


def _keys(items: pa.Table, seed: int) -> np.ndarray:
    return sample_keys(stable_hash(items[col.ITEM_ID], seed), items[col.TRAFFIC].to_numpy())


@dataclass(frozen=True)
class FittedClusters:
    """A tree of clusters, what of an earlier one it kept, and how good it is.

    Attributes
    ----------
    tree
        Its clusters have the ids of the earlier ones that they are most like.
    projection
        From embeddings to the features of items.
    names
        Per level, the keywords of clusters that did not change since the earlier run.
    mapping
        CLUSTER_MAPPING; no rows without an earlier run.
    figures
        Of the manifest; measured on the sample, with items counted by traffic.
    """

    tree: ClusterTree
    projection: Projection
    names: tuple[dict[int, list[str]], ...]
    mapping: pa.Table
    figures: dict[str, Any]


def fit_tree(sample: pa.Table, sizes: Sequence[int], previous: str | None) -> FittedClusters:
    """Fit the tree of clusters, and the projection that gives items their features.

    Parameters
    ----------
    sample
        TREE_SAMPLE, sorted by id.
    sizes
        Numbers of clusters, coarse to fine.
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
    rows, traffic = embeddings_of(sample), sample[col.TRAFFIC].to_numpy()
    times = sample[_TIMES].to_numpy()
    earlier = None if previous is None else read_previous(previous, sample[col.ITEM_ID])
    start = None if earlier is None else (earlier.cluster_ids[:, -1], earlier.parents)
    with as_input_error(f"--clusters={','.join(map(str, sizes))}: "):
        tree = fit_cluster_tree(rows, traffic, sizes, times, start)
    projection = fit_projection(rows, times)
    cluster_ids = assign_clusters(tree, rows)
    weights = times * traffic if traffic.any() else times
    figures = {
        "coherence": [round(coherence(rows, of, weights), 4) for of in cluster_ids.T],
        "separation": [round(separation(rows, of, weights), 4) for of in cluster_ids.T],
    }
    if earlier is None:
        none: tuple[dict[int, list[str]], ...] = tuple({} for _ in sizes)
        return FittedClusters(tree, projection, none, col.CLUSTER_MAPPING.empty_table(), figures)
    known = earlier.cluster_ids[:, 0] >= 0
    matches = [
        match_clusters(old[known], new[known], count)
        for old, new, count in zip(earlier.cluster_ids.T, cluster_ids.T, sizes, strict=True)
    ]
    names = tuple(
        {int(at): of_level[at] for at in match.old_ids[match.unchanged]}
        for of_level, match in zip(earlier.keywords, matches, strict=True)
    )
    mapping = cluster_mapping(matches[-1])
    return FittedClusters(renumbered(tree, matches), projection, names, mapping, figures)


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
    """Replace the embedding of items by their clusters, one of each level.

    Raises
    ------
    InputError
        If their embeddings have other lengths than those that the tree was fitted on.
    """
    return items.drop_columns([col.EMBEDDING]).append_column(
        col.ITEM_CLUSTERS.field(col.CLUSTER_IDS), _lists(_cluster_ids(items, tree))
    )


def _cluster_ids(items: pa.Table, tree: ClusterTree) -> np.ndarray:
    """Return the clusters of items, [items, levels] int32."""
    if not items.num_rows:
        return np.empty((0, len(tree.sizes)), np.int32)
    with as_input_error("the embeddings of the items have different lengths: "):
        return assign_clusters(tree, embeddings_of(items))


def item_features(items: pa.Table, projection: Projection) -> pa.Table:
    """Project the embeddings of items: ITEM_FEATURES.

    Raises
    ------
    InputError
        If their embeddings have other lengths than those of the sample.
    """
    if not items.num_rows:
        return col.ITEM_FEATURES.empty_table()
    rows, dimension = embeddings_of(items), len(projection.mean)
    if rows.shape[1] != dimension:
        raise InputError(
            f"the embeddings of the items have different lengths: {rows.shape[1]} and {dimension}"
        )
    columns = [items[col.ITEM_ID], _lists(project(projection, rows))]
    return pa.table(columns, schema=col.ITEM_FEATURES)


def count_finest(assigned: pa.Table, sizes: Sequence[int]) -> np.ndarray:
    """Count what each cluster of the finest level has: [2, finest] float64, items and traffic."""
    lists = assigned[col.CLUSTER_IDS].combine_chunks()
    cluster = pc.list_element(lists, len(sizes) - 1).to_numpy()
    traffic = assigned[col.TRAFFIC].to_numpy()
    return np.stack(
        [np.bincount(cluster, weights, sizes[-1]) for weights in (np.ones(len(cluster)), traffic)]
    )


def first_tokens(tokenizer: Any, keywords: Sequence[str]) -> list[int]:
    """Return the first token of a completion that begins with a keyword, for each keyword.

    As in a description after the newline that ends a prompt: with a comma behind it.
    """
    newline, *ids = tokenizer(
        ["\n", *(f"\n{keyword}," for keyword in keywords)], add_special_tokens=False
    )["input_ids"]
    return [row[len(newline)] for row in ids]


def name_clusters(
    sample: pa.Table, fitted: FittedClusters, keyword_count: int, base_model: str
) -> list[list[list[str]]]:
    """Name the clusters of every level.

    Parameters
    ----------
    sample
        TREE_SAMPLE that they were fitted on.
    fitted
        The clusters; those that have a name already keep it.
    keyword_count
        Keywords per cluster, at most.
    base_model
        The language model that will read the names: no two begin with the same token of it, as far
        as keywords reach.

    Returns
    -------
    Per level, the keywords of each cluster.

    Raises
    ------
    InputError
        If the base model has no tokenizer that can be loaded.
    """
    with as_input_error("--base_model: "):
        tokenizer = load_tokenizer(base_model)
    tokens_of = functools.partial(first_tokens, tokenizer)
    ids = _cluster_ids(sample, fitted.tree)
    traffic = sample[_TIMES].to_numpy() * sample[col.TRAFFIC].to_numpy()
    keywords = [words or [] for words in sample[col.KEYWORDS].to_pylist()]
    texts = [
        " ".join(part for part in parts if part)
        for parts in zip(sample[col.TITLE].to_pylist(), sample[col.TEXT].to_pylist(), strict=True)
    ]
    return [
        describe_clusters(
            ids[:, level], size, keywords, texts, traffic, tokens_of, keyword_count, kept
        )
        for level, (size, kept) in enumerate(zip(fitted.tree.sizes, fitted.names, strict=True))
    ]


def cluster_table(
    names: Sequence[list[list[str]]], tree: ClusterTree, counts: Iterable[np.ndarray]
) -> pa.Table:
    """List the clusters of every level.

    Parameters
    ----------
    names
        Per level, the keywords of each cluster.
    tree
        The clusters.
    counts
        `count_finest` of all parts of the items.

    Returns
    -------
    CLUSTERS, sorted by level and id.
    """
    item_counts, traffic = np.sum(list(counts), axis=0)
    levels = []
    for level, (size, ancestors) in enumerate(zip(tree.sizes, tree.ancestors, strict=True)):
        parents = [None] * size if level == 0 else tree.parents[level].tolist()
        levels.append(
            pa.table(
                [
                    pa.array(np.full(size, level, np.int32)),
                    pa.array(np.arange(size, dtype=np.int32)),
                    pa.array(parents, pa.int32()),
                    pa.array([description(words) for words in names[level]], pa.string()),
                    pa.array(names[level], pa.list_(pa.string())),
                    pa.array(np.bincount(ancestors, item_counts, size).astype(np.int64)),
                    pa.array(np.bincount(ancestors, traffic, size)),
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
