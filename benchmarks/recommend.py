"""Measures recommend on a million users beside one call of the same SavedModel for each user."""

import itertools
import json
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.common.complete_stage import complete_stage
from benchmarks.common.output import command_line, print_table, say, say_start
from benchmarks.common.processes import Usage, run_measured
from benchmarks.common.synthetic_log import CLUSTERS, ITEMS, prepare_log, write_items
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever_config import RetrieverConfig
from pipelines.launch.flag_types import whole_number
from transforms import schemas as col
from transforms.storage import files
from transforms.storage.manifest import read_manifest

INTERACTIONS_PER_USER = 20
_ITEMS_PER_ANSWER = 20
_FLAGS = {"clusters": [CLUSTERS], "base_model": "", "min_rating": None, "train_until": None}

Answers = dict[str, tuple[int, list[str]]]  # novel cluster and items of a user


def make_workspace(workspace: Path) -> None:
    """Write the input that recommend reads from a workspace."""
    from benchmarks.common.synthetic_model import write_saved_model

    (workspace / "clusters/item_clusters").mkdir(parents=True)
    (workspace / "transitions").mkdir()
    write_items(workspace / "clusters/item_clusters/items.parquet")
    items = pq.read_table(workspace / "clusters/item_clusters/items.parquet")
    clusters = pc.list_flatten(items[col.CLUSTER_IDS]).to_numpy()
    catalogue = Catalogue(items[col.ITEM_ID].to_numpy(), clusters, np.ones(len(clusters), bool))
    saved_model = workspace / "retrieval/saved_model"
    write_saved_model(saved_model, catalogue, CLUSTERS, RetrieverConfig(), _ITEMS_PER_ANSWER)
    for stage in ("clusters", "transitions", "retrieval"):
        complete_stage(workspace / stage, _FLAGS)


def run_pipeline(workspace: Path, log: Path, more: list[str]) -> tuple[int, Usage]:
    """Run recommend in its own process; return the users it read, and what it took."""
    output = workspace / "recommendations"
    files.delete_folder(str(output))
    say_start("recommend")
    command = [sys.executable, "-m", "pipelines.recommend"]
    flags = [f"--workspace={workspace}", f"--interactions={log}", "--ignore_gates", *more]
    usage = run_measured([*command, *flags], output)
    manifest = read_manifest(str(output))
    assert manifest is not None
    return manifest["figures"]["users"], usage


def sequences(log: Path, users: int) -> dict[str, list[str]]:
    """Return the items of the first users of a log, oldest first."""
    found: list[pa.Table] = []
    with pq.ParquetFile(log) as file:
        for number in range(file.num_row_groups):
            table = pa.concat_tables([*found, file.read_row_group(number)])
            first = pc.unique(table[col.USER_ID]).sort()[:users]
            found = [table.filter(pc.is_in(table[col.USER_ID], value_set=first))]
    by_time = found[0].sort_by([(name, "ascending") for name in (col.TIMESTAMP, col.ITEM_ID)])
    grouped = by_time.group_by(col.USER_ID, use_threads=False).aggregate([(col.ITEM_ID, "list")])
    return dict(
        zip(grouped[col.USER_ID].to_pylist(), grouped["item_id_list"].to_pylist(), strict=True)
    )


def call_per_user(workspace: Path, by_user: dict[str, list[str]]) -> tuple[float, Answers]:
    """Call the SavedModel for each user; return the seconds and the answers that have a cluster."""
    import tensorflow as tf

    say_start("a call per user")
    explore = tf.saved_model.load(str(workspace / "retrieval/saved_model")).signatures["explore"]
    answers = {}
    for items in itertools.islice(by_user.values(), 3):  # to warm up
        explore(history=tf.constant([items]))
    begun = time.monotonic()
    for user, history in by_user.items():
        answer = explore(history=tf.constant([history]))
        recommended = [item.decode() for item in answer["item_ids"].numpy()[0] if item]
        if (cluster := int(answer["novel_cluster"].numpy()[0])) >= 0:
            answers[user] = (cluster, recommended)
    return time.monotonic() - begun, answers


def same_answers(workspace: Path, answers: Answers) -> float:
    """Return the share of users with the same cluster and items in the pipeline's output."""
    names = [col.USER_ID, col.NOVEL_CLUSTER, col.ITEM_IDS]
    paths = sorted((workspace / "recommendations").glob("*.parquet"))
    users = pc.field(col.USER_ID).isin(list(answers))
    rows = pq.read_table(paths, columns=names, filters=users)
    ours = {
        user: (cluster, items)
        for user, cluster, items in zip(*(rows[name].to_pylist() for name in names), strict=True)
    }
    return sum(ours.get(user) == answer for user, answer in answers.items()) / len(answers)


def compare(folder: Path, users: int, per_user: int, more: list[str]) -> dict[str, float]:
    """Run both, print the table, and return the figures of the last line."""
    workspace = folder / "workspace"
    folder.mkdir(parents=True, exist_ok=True)
    files.delete_folder(str(workspace))
    say(f"exporting a SavedModel of {ITEMS:,} items in {CLUSTERS} clusters")
    make_workspace(workspace)
    log = prepare_log(folder, users * INTERACTIONS_PER_USER, users)
    answered, usage = run_pipeline(workspace, log, more)
    by_user = sequences(log, per_user)
    seconds, answers = call_per_user(workspace, by_user)
    speed, speed_of_calls = answered / usage.seconds, len(by_user) / seconds
    rows = []
    for name, count, taken, gib in (
        ("recommend", answered, usage.seconds, f"{usage.memory_gib:.2f}"),
        ("a call per user", len(by_user), seconds, ""),
    ):
        rows.append([name, f"{count:,}", f"{taken:.1f}", f"{count / taken:,.0f}", gib])
    print_table(["", "users", "seconds", "users/s", "GiB"], rows)
    return {
        "users_per_s": speed,
        "vs_per_user": speed / speed_of_calls,
        "peak_gib": usage.memory_gib,
        "same_answers": same_answers(workspace, answers),
    }


def main() -> None:
    """Run from a command line."""
    parser = command_line("recommend", __doc__)
    parser.epilog = "Other flags are passed to pipelines.recommend."
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench/recommend"),
        help="folder of the log and the model, 1 GB",
    )
    parser.add_argument(
        "--users",
        type=whole_number(1_000),
        default=1_000_000,
        help=f"users of the log, with {INTERACTIONS_PER_USER} interactions on average",
    )
    parser.add_argument(
        "--per_user", type=whole_number(1), default=2_000, help="users with a call for each"
    )
    flags, more = parser.parse_known_args()
    print(json.dumps(compare(flags.folder, flags.users, flags.per_user, more)))


if __name__ == "__main__":
    main()
