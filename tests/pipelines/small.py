"""A small made-up web shop, with embeddings so that no text encoder is needed."""

import hashlib
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import build_clusters, mine_transitions, train_retrieval
from pipelines.launch.workspace import FORMATS, Workspace
from transforms import schemas as col
from transforms.clusters.read_clusters import read_descriptions
from transforms.storage import files
from transforms.storage.manifest import RowCounts, StagePlan, write_manifest

AISLES = ("garden hose", "oil paint", "camp stove", "yoga mat", "board game", "bike lamp")
ITEMS_PER_AISLE = 10
USERS = 80
DIMENSION = 8
START = 1_700_000_000  # seconds since 1970
# A tokenizer of 400 tokens. That of the default base model takes each process 12 s to read.
BASE_MODEL = Path(__file__).parent / "tokenizer"

Row = dict[str, Any]


def items() -> list[Row]:
    """Return 60 items of six aisles; items of an aisle lie close together."""
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(len(AISLES), DIMENSION))
    return [
        {
            "item_id": f"sku-{aisle}-{number}",
            "title": f"{name} no {number}",
            "keywords": name.replace(" ", ", "),
            "embedding": (centres[aisle] + 0.1 * rng.normal(size=DIMENSION)).tolist(),
        }
        for aisle, name in enumerate(AISLES)
        for number in range(ITEMS_PER_AISLE)
    ]


def interactions() -> list[Row]:
    """Return 8 purchases of each of 80 users, one minute apart, rated 1 to 5."""
    rng = np.random.default_rng(8)
    ids = [item["item_id"] for item in items()]
    return [
        {
            "user_id": f"customer {user}",
            "item_id": ids[number],
            "timestamp": START + 1000 * user + 60 * step,
            "rating": float(rng.integers(1, 6)),
        }
        for user in range(USERS)
        for step, number in enumerate(rng.choice(len(ids), 8, replace=False))
    ]


def write(path: Path, rows: list[Row] | pa.Table) -> Path:
    """Write rows as Parquet, in small row groups so that several workers' parts are read."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=200)
    return path


def build(workspace: Path | str, items_path: Path, interactions_path: Path, *flags: str) -> int:
    """Run build_clusters in process and return the exit code."""
    return build_clusters.STAGE.main(
        [
            f"--workspace={workspace}",
            f"--items={items_path}",
            f"--interactions={interactions_path}",
            "--clusters=3,6",
            "--output_shards=2",
            "--text_encoder=none, the items have embeddings",
            f"--base_model={BASE_MODEL}",
            *flags,
        ]
    )


def mine(workspace: Path | str, interactions_path: Path, *flags: str) -> int:
    """Run mine_transitions in process and return the exit code."""
    return mine_transitions.STAGE.main(
        [
            f"--workspace={workspace}",
            f"--interactions={interactions_path}",
            "--output_shards=2",
            *flags,
        ]
    )


def train(workspace: Path | str, *flags: str) -> int:
    """Run train_retrieval in process, on one layer for two epochs, and return the exit code."""
    return train_retrieval.STAGE.main(
        [
            f"--workspace={workspace}",
            "--retriever_epochs=2",
            "--retriever_dimension=8",
            "--retriever_layers=1",
            "--items_per_answer=3",
            *flags,
        ]
    )


def write_language_model(workspace: Workspace) -> None:
    """Write what a complete stage finetune says of its training, without the model itself."""
    measured = {"loss": 1.2, "valid_loss": 1.1, "recall_at_1": 0.1, "recall_at_10": 0.4}
    history = [
        {**measured, "step": step, "match_rate": match_rate}
        for step, match_rate in ((0, 0.0), (10, 1.0))
    ]
    table = pa.Table.from_pylist(history, schema=col.FINETUNE_HISTORY)
    record = files.write_parquet(workspace.folder("language_model"), "history.parquet", table)
    _write_manifest(workspace, "language_model", "finetune", {}, record)


def write_novelty_table(workspace: Workspace) -> None:
    """Write a complete novelty table without a language model."""
    level = workspace.level("clusters")
    size = len(read_descriptions(workspace.folder("clusters"), level))
    pairs = []
    for c1, c2 in itertools.product(range(size), repeat=2):
        others = [(c1 + 2 * c2 + step) % size for step in range(size)]
        pairs.append((c1, c2, [novel for novel in others if novel not in (c1, c2)]))
    table = pa.Table.from_pylist(
        [
            {"c1": c1, "c2": c2, "novel": novel, "probability": [1 / len(novel)] * len(novel)}
            for c1, c2, novel in pairs
        ],
        schema=col.NOVELTY_TABLE,
    )
    folder = workspace.folder("novelty_table")
    record = files.write_parquet(folder, "part-00000-of-00001.parquet", table)
    flags = {"blocked_clusters": []}
    _write_manifest(workspace, "novelty_table", "build_novelty_table", flags, record, size**2)


def write_report(workspace: Workspace) -> None:
    """Write what a complete stage evaluate says of a novelty table that passed its gates."""
    folder, passed = workspace.folder("report"), {"match_rate": {"passed": True}}
    record = files.write_record(folder, "metrics.json", json.dumps({"gates": passed}).encode())
    _write_manifest(workspace, "report", "evaluate", {}, record, of=("clusters", "novelty_table"))


def _write_manifest(
    workspace: Workspace,
    stage: str,
    pipeline: str,
    flags: dict[str, Any],
    record: files.FileRecord,
    rows: int = 0,
    of: tuple[str, ...] = ("clusters",),
) -> None:
    inputs = {name: workspace.fingerprint(name) for name in of}
    plan = StagePlan(pipeline, inputs, flags, workspace.level("clusters"), FORMATS[stage])
    counts = RowCounts(written=rows, files=(record,))
    write_manifest(workspace.folder(stage), plan, {}, time.time(), counts)


def manifest(workspace: Path, stage: str) -> dict[str, Any]:
    """Return the manifest of a complete stage."""
    return json.loads((workspace / stage / "manifest.json").read_text())


def dead_letter(workspace: Path, pipeline: str) -> list[Row]:
    """Return the rows of a pipeline's dead letter."""
    return [
        json.loads(line)
        for path in sorted((workspace / "dead_letter" / pipeline).glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every Parquet file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def epochs_trained(workspace: str | Path) -> int:
    """Return the epochs of a retriever's training: with validation, and then on everything."""
    from models.retrieval.training.training_loop import EPOCHS_ON_EVERYTHING

    history = files.read_parquet(f"{workspace}/retrieval/history.parquet", col.RETRIEVAL_HISTORY)
    return len(history) + EPOCHS_ON_EVERYTHING
