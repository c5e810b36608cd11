"""A small slice of real data and the flags for a quick run of the whole job on it."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.inputs.datasets import write_dataset

PER_LABEL, TOP_N = 10, 4


def slice_of_movielens(folder: Path) -> tuple[Path, Path]:
    """Write a third of the users, some of their items, and three rows that can't be used."""
    interactions, items = (pq.read_table(path) for path in write_dataset("movielens", str(folder)))
    users = pa.array([str(number) for number in range(1, 200)])
    kept = interactions.filter(pc.is_in(interactions["user_id"], value_set=users))
    seen = items.filter(pc.is_in(items["item_id"], value_set=kept["item_id"].unique()))
    kept = kept.filter(pc.is_in(kept["item_id"], value_set=seen["item_id"].slice(0, 900)))
    broken = kept.slice(0, 3).to_pylist()
    broken[0]["user_id"], broken[1]["item_id"], broken[2]["rating"] = None, "nowhere", float("nan")
    kept = pa.concat_tables([kept, pa.Table.from_pylist(broken, schema=kept.schema)])
    paths = folder / "slice_interactions.parquet", folder / "slice_items.parquet"
    pq.write_table(kept, paths[0])
    pq.write_table(seen.slice(0, 800), paths[1])
    return paths


def explore_flags(interactions: Path | str, items: Path | str) -> list[str]:
    """Return flags of pipelines.explore under which every stage is short."""
    return [
        f"--interactions={interactions}",
        f"--items={items}",
        "--clusters=2,3,4,8",
        f"--examples_per_cluster={PER_LABEL}",
        "--finetune_max_steps=2",
        "--finetune_warmup_steps=1",
        "--finetune_eval_every=2",
        "--finetune_batch_size=4",
        "--finetune_eval_prompts=2",
        "--finetune_eval_examples=4",
        "--finetune_affinity_pairs=2",
        "--retriever_epochs=2",
        "--bootstrap_samples=50",
        "--simulation_users=20",
        "--simulation_days=2",
        "--ignore_gates",  # so little tuning passes no gate
        f"--clusters_per_pair={TOP_N}",
    ]


def hashes(workspace: Path) -> dict[str, str]:
    """Hash what must not differ between runs: Parquet, dead letters and weights."""
    return {
        str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in ("*.parquet", "*.safetensors", "*.jsonl")
        for path in workspace.rglob(pattern)
    }
