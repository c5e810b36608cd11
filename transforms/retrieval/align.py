"""Fits the weights of the aligned score on held-out transitions, and keeps them as JSON."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.interests.alignment import ABLATIONS, PARTS, Cases, fit_weights
from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.files import FileRecord
from transforms.workers.saved_model import in_batches

if TYPE_CHECKING:
    from models.retrieval.serving.serving_module import ServingModule

ALIGNMENT = "alignment.json"
_MOST_CASES, _MOST_SCORES = 5_000, 4_000_000  # held in memory: cases, and cases times clusters

Weights = dict[str, np.ndarray]  # [PARTS] by name of ABLATIONS


def case_count(clusters: int) -> int:
    """Return on how many transitions the weights are fitted, at most.

    >>> case_count(48), case_count(4_000)
    (5000, 1000)
    """
    return min(_MOST_CASES, _MOST_SCORES // clusters)


def align(module: "ServingModule", cases: pa.Table) -> Weights:
    """Fit the weights on CASES from which neither the model nor the table learned."""
    size = module.descriptions.shape[0]
    found = {
        "parts": [np.zeros([0, size, len(PARTS)], np.float32)],
        "candidates": [np.zeros([0, size], bool)],
        "recommendable": [np.zeros([0, size], bool)],
        "novel": [np.zeros(0, np.int32)],
    }
    for some, history in in_batches(cases, col.USER_ID, col.NOVEL):
        for name, values in module.score_clusters(history).items():
            found[name].append(values.numpy())
        found["novel"].append(some[col.NOVEL].to_numpy())
    joined = {name: np.concatenate(values) for name, values in found.items()}
    weights = {}
    for name, used in ABLATIONS.items():
        able = joined["recommendable"]
        if "table" in used:
            able = able & joined["candidates"]
        weights[name] = fit_weights(Cases(joined["parts"], able, joined["novel"]), used)
    return weights


def write_alignment(folder: str, weights: Weights, cases: int) -> FileRecord:
    """Write the weights, and on how many transitions they were fitted."""
    named = {
        name: dict(zip(PARTS, np.round(values, 6).tolist(), strict=True))
        for name, values in weights.items()
    }
    content = json.dumps({"cases": cases, "weights": named}, indent=1)
    return files.write_record(folder, ALIGNMENT, content.encode())


def read_alignment(folder: str) -> Weights:
    """Read what `write_alignment` wrote; InputError if it is damaged."""
    try:
        content: dict[str, Any] = json.loads(files.read_bytes(files.join(folder, ALIGNMENT)))
        return {
            name: np.array([content["weights"][name][part] for part in PARTS], np.float64)
            for name in ABLATIONS
        }
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{files.join(folder, ALIGNMENT)} is damaged ({error!r}); run `python -m "
            "pipelines.train_retrieval` again"
        ) from error


def aligned_scores(parts: np.ndarray, able: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the scores [n, M] of clusters for parts [n, M, PARTS]; -inf for those not `able`."""
    return np.where(able, parts.astype(np.float64) @ weights, -np.inf)
