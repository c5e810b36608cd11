"""Measures recommend on a million users beside one call of the same SavedModel for each user."""

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.interaction_log import CLUSTERS, ITEMS, write_items, write_log
from benchmarks.progress import say
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever_config import RetrieverConfig
from pipelines.launch.flag_types import whole_number
from transforms import schemas as col
from transforms.storage import files
from transforms.storage.manifest import read_manifest

USERS, PER_USER = 1_000_000, 2_000
INTERACTIONS_PER_USER = 20
_TOP_N, _ITEMS_PER_ANSWER = 20, 20
_LEVEL = 0
_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True)
class Measured:
    """What one way took.

    Attributes
    ----------
    users
        That it answered, with a recommendation or without.
    seconds
        Of the pipeline: the whole process; of the calls: after the model was loaded.
    gib
        The most memory that all its processes had at a time; None where it was not measured.
    """

    users: int
    seconds: float
    gib: float | None


def write_saved_model(
    path: Path, catalogue: Catalogue, clusters: int, config: RetrieverConfig, k: int
) -> None:
    """Export a model with random weights and a random novelty table for this many clusters."""
    from models.interests.novelty_table import NoveltyTable
    from models.retrieval.retriever import RetrieverModel
    from models.retrieval.serving.serving_module import export_saved_model

    rng = np.random.default_rng(0)
    counts = rng.integers(0, 100, len(catalogue.item_ids))
    model = RetrieverModel(config, catalogue, counts)
    novel = rng.integers(0, clusters, (clusters, clusters, _TOP_N)).astype(np.int32)
    probability = np.full(novel.shape, 1 / _TOP_N, np.float32)
    names = [f"cluster {cluster}" for cluster in range(clusters)]
    export_saved_model(model, catalogue, NoveltyTable(novel, probability, names), path, k)


def make_workspace(workspace: Path) -> None:
    """Write what recommend reads of a workspace."""
    folder = workspace / "clusters" / "item_clusters"
    folder.mkdir(parents=True)
    write_items(folder / "items.parquet")
    items = pq.read_table(folder / "items.parquet")
    clusters = pc.list_flatten(items[col.CLUSTER_IDS]).to_numpy()
    catalogue = Catalogue(items[col.ITEM_ID].to_numpy(), clusters, np.ones(len(clusters), bool))
    saved_model = workspace / "retrieval" / "saved_model"
    write_saved_model(saved_model, catalogue, CLUSTERS, RetrieverConfig(), _ITEMS_PER_ANSWER)
    for stage in ("clusters", "retrieval"):
        records = files.folder_records(str(workspace / stage))
        manifest = {"inputs": {}, "level": _LEVEL, "files": [asdict(record) for record in records]}
        (workspace / stage / "manifest.json").write_text(json.dumps(manifest))


def run_pipeline(workspace: Path, log: Path, more: list[str]) -> Measured:
    """Run recommend in a process of its own, from nothing."""
    files.delete_folder(str(workspace / "recommendations"))
    say(f"recommend (load before: {os.getloadavg()[0]:.1f})")
    begun = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipelines.recommend"),
            *(f"--workspace={workspace}", f"--interactions={log}", *more),
        ],
        stdout=sys.stderr,
        start_new_session=True,
    )
    gib = 0.0
    while process.poll() is None:
        gib = max(gib, resident_gib(process.pid))
        time.sleep(_SAMPLE_SECONDS)
    seconds = time.monotonic() - begun
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, "recommend")
    manifest = read_manifest(str(workspace / "recommendations"))
    assert manifest is not None
    return Measured(manifest["figures"]["users"], seconds, gib)


def resident_gib(session: int) -> float:
    """Return the memory of all processes of a session; what they share counts once."""
    kib = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if int((process / "stat").read_text().rsplit(")", 1)[1].split()[3]) != session:
                continue
            lines = (process / "smaps_rollup").read_text().splitlines()
        except OSError:  # it ended meanwhile
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 2**20


def histories(log: Path, users: int) -> dict[str, list[str]]:
    """Return the items of the first users of a log, oldest first."""
    found: pa.Table | None = None
    with pq.ParquetFile(log) as file:
        for number in range(file.num_row_groups):
            rows = file.read_row_group(number)
            tables = [rows] if found is None else [found, rows]
            table = pa.concat_tables(tables)
            first = pc.unique(table[col.USER_ID]).sort()[:users]
            found = table.filter(pc.is_in(table[col.USER_ID], value_set=first))
    assert found is not None
    by_time = found.sort_by([(name, "ascending") for name in (col.TIMESTAMP, col.ITEM_ID)])
    grouped = by_time.group_by(col.USER_ID, use_threads=False).aggregate([(col.ITEM_ID, "list")])
    return dict(
        zip(grouped[col.USER_ID].to_pylist(), grouped["item_id_list"].to_pylist(), strict=True)
    )


def call_per_user(
    workspace: Path, by_user: dict[str, list[str]]
) -> tuple[Measured, dict[str, tuple[int, list[str]]]]:
    """Call the SavedModel once for each user; return novel cluster and items of those with any."""
    import tensorflow as tf

    say(f"one call a user (load before: {os.getloadavg()[0]:.1f})")
    model = tf.saved_model.load(str(workspace / "retrieval" / "saved_model"))
    explore = model.signatures["explore"]
    answers = {}
    for history in itertools.islice(by_user.values(), 3):  # what is done at first calls only
        explore(history=tf.constant([history]))
    begun = time.monotonic()
    for user, history in by_user.items():
        answer = explore(history=tf.constant([history]))
        items = [item.decode() for item in answer["item_ids"].numpy()[0] if item]
        if (cluster := int(answer["novel_cluster"].numpy()[0])) >= 0:
            answers[user] = (cluster, items)
    return Measured(len(by_user), time.monotonic() - begun, None), answers


def same_answers(workspace: Path, answers: dict[str, tuple[int, list[str]]]) -> float:
    """Return the share of users to whom the pipeline gave the same cluster and items."""
    names = [col.USER_ID, col.NOVEL_CLUSTER, col.ITEM_IDS]
    paths = sorted((workspace / "recommendations").glob("*.parquet"))
    users = pc.field(col.USER_ID).isin(list(answers))
    rows = pq.read_table(paths, columns=names, filters=users)
    ours = {
        user: (cluster, items)
        for user, cluster, items in zip(*(rows[name].to_pylist() for name in names), strict=True)
    }
    return sum(ours.get(user) == answer for user, answer in answers.items()) / len(answers)


def compare(folder: Path, users: int, per_user: int, more: list[str]) -> dict[str, float | None]:
    """Run both, print the table, and return the figures of the last line."""
    workspace, log = folder / "workspace", folder / f"log-{users}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    files.delete_folder(str(workspace))
    say(f"making a SavedModel of {ITEMS:,} items in {CLUSTERS} clusters")
    make_workspace(workspace)
    if not log.exists():
        say(f"making {log}")
        unfinished = log.with_suffix(".unfinished")
        write_log(unfinished, users * INTERACTIONS_PER_USER, users)
        unfinished.rename(log)
    ours = run_pipeline(workspace, log, more)
    calls, answers = call_per_user(workspace, histories(log, per_user))
    print(f"{'':16}{'users':>12}{'seconds':>10}{'users/s':>10}{'GiB':>7}")
    for name, run in (("recommend", ours), ("a call a user", calls)):
        gib = "" if run.gib is None else f"{run.gib:.2f}"
        speed = run.users / run.seconds
        print(f"{name:16}{run.users:>12,}{run.seconds:>10.1f}{speed:>10,.0f}{gib:>7}")
    return {
        "users_per_s": ours.users / ours.seconds,
        "vs_per_user": ours.users / ours.seconds / (calls.users / calls.seconds),
        "peak_gib": ours.gib,
        "same_answers": same_answers(workspace, answers),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recommend",
        description=__doc__,
        epilog="Other flags are handed to pipelines.recommend.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("build/bench/recommend"),
        help="where log and model are made, 1 GB (default: %(default)s)",
    )
    parser.add_argument(
        "--users",
        type=whole_number(1_000),
        default=USERS,
        help=f"users of the log, with {INTERACTIONS_PER_USER} interactions on average "
        f"(default: {USERS:,})",
    )
    parser.add_argument(
        "--per_user",
        type=whole_number(1),
        default=PER_USER,
        help=f"users that are asked about one by one (default: {PER_USER:,})",
    )
    flags, more = parser.parse_known_args(argv)
    print(json.dumps(compare(flags.folder, flags.users, flags.per_user, more)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
