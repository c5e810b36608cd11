"""A synthetic evaluation of any size, for the benchmark and the tests of the report."""

from typing import Any

import numpy as np

from models.evaluation.gates import GateThresholds, gates
from models.evaluation.policies.policy_names import OURS
from models.evaluation.table_diff import table_diff
from models.interests.alignment import ABLATIONS, PARTS
from models.interests.novelty_table import NoveltyTable
from models.interests.pairs import unpair
from transforms.evaluation.report.data import ReportData
from transforms.evaluation.report.sentences import summary_sentences

_FIRST = ("space", "war", "jazz", "garden", "crime", "family", "robot", "ocean", "desert", "school")
_SECOND = ("adventure", "romance", "history", "comedy", "mystery", "documentary", "travel", "music")
_POLICIES = (
    *ABLATIONS,
    *("novelty_table", "novelty_table_prior", "novelty_table_pooled", "popularity", "markov_1"),
    *("markov_2", "naive_bayes", "pair_counts"),
    *("cluster_neighbours", "affinity", "affinity_pooled"),
    *("llm_untuned", "llm_undiversified", "retriever", "retriever_novel"),
)
_SIMULATED = (
    "novelty_table",
    "novelty_table_prior",
    "popularity",
    "hierarchical_bandit",
    "retriever",
    "random",
)
_DAYS, _MIN_USERS, _ANSWERS, _FEW = 28, 10, 20, 0.3


def synthetic_report(clusters: int, seed: int = 0) -> ReportData:
    """Return an evaluation with random numbers; every section of a report has data."""
    rng = np.random.default_rng(seed)
    names = [
        f"{_FIRST[i % 10]}, {_SECOND[i // 10 % 8]}" + (f", {i // 80}" if i >= 80 else "")
        for i in range(clusters)
    ]
    table, before = (_table(names, rng) for _ in range(2))
    users = rng.poisson(4, clusters**2) * (rng.random(clusters**2) < _FEW) * rng.integers(1, 20)
    metrics = _metrics(names, rng)
    metrics["diff"] = table_diff(before, table, np.arange(clusters, dtype=np.int32))
    metrics["gates"] = gates(metrics, GateThresholds(changed=1.0, popularity=-1.0))
    metrics["passed"] = all(gate["passed"] for gate in metrics["gates"].values())
    metrics["summary"] = summary_sentences(metrics)
    items = [[f"{name.title()} no {number}" for number in range(1, 6)] for name in names]
    return ReportData(metrics, table, items, users.astype(np.int64), _MIN_USERS)


def _table(names: list[str], rng: np.random.Generator) -> NoveltyTable:
    size = len(names)
    n = min(_ANSWERS, size - 2)
    c1, c2 = unpair(np.arange(size**2), size)
    start = rng.integers(0, size, size**2)
    # Consecutive clusters from a random start: distinct, and never c1 or c2.
    stretch = (start[:, None] + np.arange(n + 2)) % size
    allowed = (stretch != c1[:, None]) & (stretch != c2[:, None])
    order = np.argsort(~allowed, axis=1, kind="stable")[:, :n]
    novel = np.take_along_axis(stretch, order, axis=1).astype(np.int32)
    share = rng.random((size**2, n), np.float32) ** 3
    share /= share.sum(1, keepdims=True) * rng.uniform(1.1, 2, (size**2, 1))
    probability = -np.sort(-share.astype(np.float32), axis=1)
    shape = (size, size, n)
    return NoveltyTable(novel.reshape(shape), probability.reshape(shape), names)


def _interval(value: float, width: float = 0.008) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width}


def _metrics(names: list[str], rng: np.random.Generator) -> dict[str, Any]:
    policies = {name: _policy(rank, rng) for rank, name in enumerate(_POLICIES)}
    baselines = [name for name in _POLICIES if name not in OURS]

    def paired(metric: str, ours: str, others: list[str]) -> dict[str, dict[str, float]]:
        return {
            name: _interval(policies[ours][metric]["value"] - policies[name][metric]["value"])
            for name in others
        }

    return {
        **{"level": 3, "clusters": len(names), "split": "user", "seed": 0},
        **{"users": 4321, "transitions": 23456, "bootstrap_samples": 1000, "prior_weight": 0.6},
        "policies": policies,
        "paired": {
            "macro_recall_at_5": paired("macro_recall_at_5", "novelty_table", baselines),
            "recall_at_5": paired("recall_at_5", "novelty_table_prior", baselines),
        },
        "user_coverage": 0.6,
        **{
            where: {
                metric: paired(metric, ours, [name for name in _POLICIES if name != ours])
                for metric in ("macro_recall_at_5", "recall_at_5")
            }
            for where, ours in (
                ("paired_pooled", "novelty_table_pooled"),
                ("paired_aligned", "aligned"),
            )
        },
        "alignment": {
            name: {part: 0.5 * (part in used) for part in PARTS} for name, used in ABLATIONS.items()
        },
        "items": {
            "top": 10,
            "hit_rate": _interval(0.31),
            "popularity_hit_rate": _interval(0.24),
            "examples": 23456,
        },
        "calibration": {
            name: {
                "bins": [
                    {
                        "probability": p,
                        "observed": p * factor,
                        "low": 0.9 * p * factor,
                        "high": 1.1 * p * factor,
                        "predictions": 4000 - 500 * bin_,
                    }
                    for bin_, p in enumerate((0.01, 0.03, 0.07, 0.15, 0.3))
                ],
                "expected_calibration_error": 0.012,
            }
            for name, factor in (("novelty_table", 0.8), ("popularity", 1.05))
        },
        "labels": [_label(i, name, rng) for i, name in enumerate(names)],
        "finetuning": _history(),
        "diff": None,
        "simulation": _simulation(rng),
        "data": {"stages": {name: _stage(name) for name in ("build_clusters", "finetune")}},
    }


def _policy(rank: int, rng: np.random.Generator) -> dict[str, Any]:
    best = 0.24 - 0.009 * rank
    values = {
        "recall_at_1": best / 4,
        "recall_at_5": 0.2 + float(rng.uniform(0, 0.05)) + (0.06 if rank == 1 else 0),
        "recall_at_10": 0.4,
        "macro_recall_at_5": best,
        "mrr": best * 0.7,
        "coverage": 0.9 - 0.04 * rank,
        "novelty": 0.99 - 0.02 * rank,
        "head_recall_at_5": 0.2 + 0.015 * rank,
        "tail_recall_at_5": best * 0.8,
    }
    found = {name: _interval(value) for name, value in values.items()}
    return found | {"entropy": _interval(5.2 - 0.2 * rank, 0.05)}


def _label(number: int, name: str, rng: np.random.Generator) -> dict[str, Any]:
    users = int(4000 / (number + 1)) + 12
    tested = users // 8 if users // 8 >= _MIN_USERS else None
    recall = {
        policy: None if tested is None else float(rng.uniform(0, 0.5))
        for policy in ("novelty_table", "popularity")
    }
    return {
        **{"cluster_id": number, "description": name, "train_users": users},
        **{"test_transitions": tested, "recall_at_5": recall},
    }


def _history() -> list[dict[str, Any]]:
    return [
        {
            **{"step": step, "loss": 3.5 - step / 100, "valid_loss": 3.6 - step / 100},
            **{"match_rate": min(0.99, step / 150), "recall_at_1": 0.02 + step / 5000},
            **{"recall_at_10": 0.2 + step / 1500},
        }
        for step in range(0, 251, 25)
    ]


def _simulation(rng: np.random.Generator) -> dict[str, Any]:
    ends = {
        "novelty_rate": 0.3,
        "satisfaction": 0.5,
        "unique_clusters": 9,
        "users_with_5_clusters": 0.6,
    }
    return {
        **{"days": _DAYS, "users": 1000, "seeds": 5},
        "policies": {
            policy: {
                key: [
                    _interval(end * factor * (0.3 + 0.7 * (day + 1) / _DAYS), 0.04 * end)
                    for day in range(_DAYS)
                ]
                for key, end in ends.items()
            }
            for policy in _SIMULATED
            for factor in [float(rng.uniform(0.6, 1.1))]
        },
    }


def _stage(name: str) -> dict[str, Any]:
    return {
        "rows": {"read": 100_100, "used": 100_000, "dead": 100, "written": 50_000},
        "dead_letter": {"the timestamp is missing": 60, "the item is not known": 40},
        "seconds": 61.2 if name == "build_clusters" else 702.5,
        "packages": {"apache-beam": "2.77.0", "numpy": "2.3.5"},
    }
