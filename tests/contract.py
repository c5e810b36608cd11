"""What design promises of a finished workspace, checked with pyarrow and TensorFlow alone."""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

STAGES = {
    "clusters": "build_clusters",
    "transitions": "mine_transitions",
    "language_model": "finetune",
    "novelty_table": "build_novelty_table",
    "retrieval": "train_retrieval",
    "report": "evaluate",
    "recommendations": "recommend",
}


def read(folder: Path) -> list[dict]:
    return ds.dataset(folder, format="parquet", exclude_invalid_files=True).to_table().to_pylist()


def check_manifests(workspace: Path) -> None:
    for stage, pipeline in STAGES.items():
        manifest = json.loads((workspace / stage / "manifest.json").read_text())
        rows = manifest["rows"]
        assert rows["read"] == rows["used"] + rows["dead"]
        dead = [
            json.loads(line)
            for path in (workspace / "dead_letter" / pipeline).glob("*.jsonl")
            for line in path.read_text().splitlines()
        ]
        assert len(dead) == rows["dead"]
        assert all(row["reason"] for row in dead)
        listed = {file["path"] for file in manifest["files"]}
        there = {
            str(path.relative_to(workspace / stage))
            for path in (workspace / stage).rglob("*")
            if path.is_file()
        }
        assert there == listed | {"manifest.json"}
        for file in manifest["files"]:
            content = (workspace / stage / file["path"]).read_bytes()
            assert len(content) == file["size"]
            assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert not (workspace / "unfinished").exists() or not any((workspace / "unfinished").iterdir())


def check_clusters(workspace: Path) -> None:
    clusters = read(workspace / "clusters" / "clusters.parquet")
    items = read(workspace / "clusters" / "item_clusters")
    features = read(workspace / "clusters" / "item_features")
    assert {row["item_id"] for row in features} == {row["item_id"] for row in items}
    assert len(features) == len(items)
    assert len({len(row["features"]) for row in features}) == 1
    levels = 1 + max(row["level"] for row in clusters)
    figures = json.loads((workspace / "clusters" / "manifest.json").read_text())["figures"]
    for name in ("balance", "coherence", "separation"):
        assert len(figures[name]) == levels
    parents = {(row["level"], row["cluster_id"]): row["parent_id"] for row in clusters}
    counts: Counter = Counter()
    for item in items:
        assert len(item["cluster_ids"]) == levels
        for level, cluster in enumerate(item["cluster_ids"]):
            counts[level, cluster] += 1
            above = item["cluster_ids"][level - 1] if level else None
            assert parents[level, cluster] == above
    assert len({item["item_id"] for item in items}) == len(items)
    for level in range(levels):
        of_level = [row for row in clusters if row["level"] == level]
        assert [row["cluster_id"] for row in of_level] == list(range(len(of_level)))
        assert len({row["description"] for row in of_level}) == len(of_level)
        balance = max(row["traffic"] for row in of_level) * len(of_level)
        total = sum(row["traffic"] for row in of_level)
        assert abs(figures["balance"][level] - (balance / total if total else 1)) < 1e-3
        for row in of_level:
            assert row["item_count"] == counts[level, row["cluster_id"]] > 0
            assert row["description"] == ", ".join(row["keywords"])


def check_mapping(workspace: Path, previous: Path) -> None:
    """Check that clusters with an old and a new id kept id and description."""
    rows = read(workspace / "clusters" / "mapping.parquet")
    before, after = (
        {
            row["cluster_id"]: row["description"]
            for row in read(folder / "clusters" / "clusters.parquet")
            if row["level"] == levels_of(folder) - 1
        }
        for folder in (previous, workspace)
    )
    assert sorted(row["old_id"] for row in rows if row["old_id"] is not None) == sorted(before)
    assert sorted(row["new_id"] for row in rows if row["new_id"] is not None) == sorted(after)
    for row in rows:
        if None not in row.values():
            assert row["old_id"] == row["new_id"]
            assert before[row["old_id"]] == after[row["new_id"]]


def levels_of(workspace: Path) -> int:
    return 1 + max(row["level"] for row in read(workspace / "clusters" / "clusters.parquet"))


def check_transitions(workspace: Path, per_label: int) -> None:
    splits = read(workspace / "transitions" / "splits")
    assert len({row["user_id"] for row in splits}) == len(splits)
    assert {row["split"] for row in splits} <= {"train", "valid", "test"}
    examples = workspace / "transitions" / "examples"
    train = read(examples / "train")
    assert max(Counter(row["novel"] for row in train).values()) <= per_label
    assert len({(row["c1"], row["c2"], row["novel"]) for row in train}) == len(train)
    counted = {(r["c1"], r["c2"], r["novel"]) for r in read(workspace / "transitions" / "counts")}
    assert {(row["c1"], row["c2"], row["novel"]) for row in train} <= counted
    names = descriptions(workspace)
    for row in [*train, *read(examples / "valid"), *read(examples / "test")]:
        assert row["novel"] not in (row["c1"], row["c2"])
        assert row["completion"] == names[row["novel"]]
        assert names[row["c1"]] in row["prompt"]
        assert names[row["c2"]] in row["prompt"]


def check_label_distribution(workspace: Path) -> None:
    """Check the figures of the labels against the files they are about."""
    folder, size = workspace / "transitions", len(descriptions(workspace))
    figures = json.loads((folder / "manifest.json").read_text())["figures"]["label_distribution"]
    users: Counter = Counter()
    for row in read(folder / "counts"):
        users[row["novel"]] += row["users"]
    rows = Counter(row["novel"] for row in read(folder / "examples" / "train"))
    assert figures["clusters"] == size
    for name, labels in (("before", users), ("after", rows)):
        counts = np.array(list(labels.values()))
        p = counts / counts.sum()
        top = [count for _, count in labels.most_common(math.ceil(size / 100))]
        expected = {
            "total": counts.sum(),
            "labels": len(labels),
            "entropy": -(p * np.log2(p)).sum(),
            "evenness": -(p * np.log2(p)).sum() / np.log2(size),
            "coverage": len(labels) / size,
            "top_1_percent_share": sum(top) / counts.sum(),
        }
        assert figures[name].keys() == expected.keys()
        assert all(abs(figures[name][key] - value) < 1e-5 for key, value in expected.items())
    ElementTree.parse(folder / "label_distribution.svg")
    affinity = read(folder / "affinity.parquet")
    assert all(one["known"] != one["novel"] and one["weight"] > 0 for one in affinity)


def descriptions(workspace: Path) -> list[str]:
    level = json.loads((workspace / "transitions" / "manifest.json").read_text())["level"]
    clusters = read(workspace / "clusters" / "clusters.parquet")
    return [row["description"] for row in clusters if row["level"] == level]


def check_novelty_table(workspace: Path, top_n: int) -> None:
    size = len(descriptions(workspace))
    pairs = set()
    for path in sorted((workspace / "novelty_table").glob("*.parquet")):
        rows = read(path)
        assert rows == sorted(rows, key=lambda row: (row["c1"], row["c2"]))
        for row in rows:
            pairs.add((row["c1"], row["c2"]))
            novel, probability = row["novel"], row["probability"]
            assert len(novel) == len(probability) == len(set(novel))
            assert len(novel) == min(top_n, size - len({row["c1"], row["c2"]}))
            assert set(novel) <= set(range(size)) - {row["c1"], row["c2"]}
            assert all(a >= b for a, b in itertools.pairwise(probability))
            assert 0 <= sum(probability) <= 1 + 1e-5
    assert pairs == {(c1, c2) for c1 in range(size) for c2 in range(size)}


def check_recommendations(workspace: Path, interactions: list[dict]) -> None:
    """Check that what is recommended is of its cluster, and the cluster new to the user."""
    level = json.loads((workspace / "transitions" / "manifest.json").read_text())["level"]
    cluster_of = {
        row["item_id"]: row["cluster_ids"][level]
        for row in read(workspace / "clusters" / "item_clusters")
    }
    known: dict[str, set[int]] = {}
    for row in interactions:
        if row["item_id"] in cluster_of:
            known.setdefault(row["user_id"], set()).add(cluster_of[row["item_id"]])
    rows = read(workspace / "recommendations")
    assert rows
    assert len({row["user_id"] for row in rows}) == len(rows)
    for row in rows:
        assert row["novel_cluster"] not in known[row["user_id"]]
        assert row["c1"] in known[row["user_id"]]
        assert row["c2"] in known[row["user_id"]]
        assert 0 < row["propensity"] <= 1
        assert len(row["item_ids"]) == len(row["scores"]) == len(set(row["item_ids"]))
        assert {cluster_of[item] for item in row["item_ids"]} <= {row["novel_cluster"]}


def check_report(workspace: Path, interactions: list[dict]) -> None:
    """Check that metrics.json has all metrics, between 0 and 1, and tells nobody's id."""
    text = (workspace / "report" / "metrics.json").read_text()
    metrics = json.loads(text)
    in_share = ["recall_at_1", "recall_at_5", "recall_at_10", "macro_recall_at_5", "mrr"]
    in_share += ["coverage", "novelty", "head_recall_at_5", "tail_recall_at_5"]
    for policy in metrics["policies"].values():
        assert {*in_share, "entropy"} <= policy.keys()
        for name in in_share:
            ends = [policy[name][end] for end in ("low", "value", "high")]
            assert ends == [None] * 3 or all(0 <= end <= 1 for end in ends)
    size = len(descriptions(workspace))
    assert metrics["clusters"] == size == len(metrics["labels"])
    assert all(
        0 <= policy["entropy"]["value"] <= math.log2(size)
        for policy in metrics["policies"].values()
    )
    assert metrics["policies"].keys() >= {"novelty_table", "novelty_table_prior", "retriever"}
    assert metrics["gates"].keys() >= {"match_rate", "recall", "popularity", "coverage"}
    assert metrics["passed"] == all(gate["passed"] for gate in metrics["gates"].values())
    assert len(metrics["summary"]) >= 3
    assert "</html>" in (workspace / "report" / "index.html").read_text()
    words = set(_strings(metrics))
    assert not words & {row["user_id"] for row in interactions}


def _strings(value: object) -> Iterator[str]:
    """Yield all texts of what JSON holds, names of fields too."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, str):
        yield value


def check_saved_model(workspace: Path, histories: list[list[str]]) -> None:
    import tensorflow as tf

    level = json.loads((workspace / "transitions" / "manifest.json").read_text())["level"]
    cluster_of = {
        row["item_id"]: row["cluster_ids"][level]
        for row in read(workspace / "clusters" / "item_clusters")
    }
    model = tf.saved_model.load(str(workspace / "retrieval" / "saved_model"))
    longest = max(map(len, histories))
    padded = tf.constant([history + [""] * (longest - len(history)) for history in histories])
    answer = model.signatures["explore"](history=padded)
    for row, history in enumerate(histories):
        cluster = int(answer["novel_cluster"][row])
        found = [item.decode() for item in answer["item_ids"][row].numpy() if item]
        assert not set(found) & set(history)
        known = {cluster_of[item] for item in history if item in cluster_of}
        if known:
            assert all(cluster_of[item] == cluster for item in found)
            assert cluster not in known
        else:  # what is popular
            assert cluster == -1
            assert found
    asked = np.array([[row % 3, -1] for row in range(len(histories))], np.int32)
    answer = model.signatures["recommend"](history=padded, cluster_ids=tf.constant(asked))
    for row, history in enumerate(histories):
        found = [item.decode() for item in answer["item_ids"][row].numpy() if item]
        assert not set(found) & set(history)
        assert all(cluster_of[item] == asked[row, 0] for item in found)


def check_workspace(workspace: Path, interactions: pa.Table, per_label: int, top_n: int) -> None:
    """Check everything that can be checked without loading the language model."""
    rows = interactions.to_pylist()
    check_manifests(workspace)
    check_clusters(workspace)
    check_transitions(workspace, per_label)
    check_label_distribution(workspace)
    check_novelty_table(workspace, top_n)
    check_report(workspace, rows)
    check_recommendations(workspace, rows)
    histories: dict[str, list[str]] = {}
    for row in rows[:20_000]:
        histories.setdefault(row["user_id"], []).append(row["item_id"])
    check_saved_model(workspace, [*list(histories.values())[:32], ["unknown"], []])
