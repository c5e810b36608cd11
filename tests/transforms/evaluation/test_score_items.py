"""The retriever's answers judged by hand."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from models.interests.alignment import ABLATIONS
from tests.models.evaluation.simulation.synthetic_users import ByNumber
from transforms.evaluation import score_items
from transforms.evaluation.score_items import Drawn, popular_items, scores_by_policy
from transforms.evaluation.score_policies import Resamples
from transforms.transitions.held_out_cases import CASES

CLUSTERS = np.array([0, 0, 1, 1, 2, 3], np.int32)
IDS = pa.array(["a", "b", "c", "d", "e", "f"])
IS_HEAD = np.array([False, True, False, True])


def test_popular_items_are_eligible_and_by_count_then_id() -> None:
    eligible = np.array([True, True, True, True, False, True])
    found = popular_items(np.array([1, 4, 2, 2, 9, 0]), CLUSTERS, eligible, 4, 2)
    assert found.tolist() == [[1, 0], [2, 3], [-1, -1], [5, -1]]


def test_hits_ranks_and_novelty_of_two_transitions() -> None:
    opened = pa.table(
        [
            pa.array(["u", "v"]),
            pa.array([0, 0]),
            pa.array([0, 1]),
            pa.array([1, 3]),
            pa.array([3, 5]),  # the items d and f
            pa.array([[0], [0, 1]]),  # clusters
            pa.array([[0] * 8, [1] + [0] * 7]),  # the newest first
            pa.array([["a"], ["a", "c"]]),
        ],
        names=CASES.names,
    ).cast(CASES)
    answered = opened
    for name, items in (
        ("within", [["d", "c"], []]),
        ("anywhere", [["b", "e", "c"], ["e", "d"]]),
    ):
        answered = answered.append_column(name, pa.array(items, pa.list_(pa.string())))
    weights = np.array([[1, 0], [1, 2]], np.int32)
    popular = np.array([[1], [2], [4], [5]], np.int32)
    drawn = Drawn(answered, IDS, CLUSTERS, weights, 4)
    found = drawn.items(popular)
    assert found.examples.tolist() == [2, 2]
    assert found.hits.tolist() == [1, 0]  # d for u; nothing for v
    assert found.popular_hits.tolist() == [1, 2]  # f for v; c is more popular than d
    # u: clusters 0 (known), 2, 1; v: 2, 1 (known), never 3.
    plain = drawn.ranks_of_retriever()
    metrics = plain.metrics(IS_HEAD)
    assert metrics["mrr"].tolist() == pytest.approx([1 / 6, 0])
    assert metrics["recall_at_5"].tolist() == [0.5, 0]
    # u is shown 0 2 1, two of them new; v 2 and 1, one of them new.
    assert metrics["novelty"].tolist() == [3 / 5, 1 / 2]
    assert plain.winners[:, 0].tolist() == [1, 0, 1, 0]
    # By id, the least likely last: u, who knows 0, takes up the first that is new, v, who knows 1
    # too, the second.
    pair = (np.array([0, 0], np.int32), np.array([0, 1], np.int32))
    ours = drawn.ranks_of(ByNumber(np.array([4, 3, 2, 1])).scores(*pair)).metrics(IS_HEAD)
    assert ours["mrr"].tolist() == [(1 + 1 / 2) / 2, 1 / 2]
    assert ours["novelty"].tolist() == [1, 1]


class Asked:
    """Stands for the SavedModel: four clusters, of which the table proposes 1, and 3 is blocked."""

    clusters: list[list[list[int]]]

    def __init__(self, *of_model: object) -> None:
        Asked.clusters = []

    def answer(self, signature: str, inputs: dict[str, np.ndarray]) -> dict:
        if signature == "score_clusters":
            user = np.array([0, 1, 3, 9])
            parts = np.stack([[0, 2, 0, 0], user, [0, 0, 0, 0]], axis=1)[None].astype(np.float32)
            listed = np.array([[False, True, False, False]])
            return {
                "parts": parts,
                "candidates": listed,
                "recommendable": np.array([[False, True, True, False]]),
            }
        self.clusters.append(inputs["cluster_ids"].tolist())
        return {"item_ids": np.array([[b"a"]] * len(inputs["history"]), object)}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    monkeypatch.setattr(score_items, "HistoryModel", Asked)
    one = pa.table([["u"], [0], [0], [2], [4], [[0]], [[0] * 8], [["a"]]], names=CASES.names).cast(
        CASES
    )
    return score_items._Retriever("model", 4, "secret").ask(one)


def test_the_model_is_asked_for_the_cluster_and_for_any(asked: pa.Table) -> None:
    assert Asked.clusters == [[[2]], [[0, 1, 2, 3]]]


def test_policies_of_the_model_score_what_may_be_recommended(asked: pa.Table) -> None:
    none = SimpleNamespace(by_name=lambda weight: {}, pooled={}, size=4)
    weights = dict.fromkeys(ABLATIONS, np.array([1.0, 1.0, 0.0])) | {
        "aligned_without_table": np.array([0.0, 1.0, 0.0])
    }
    scores = dict(scores_by_policy(none, asked, 0.0, weights))
    never = -np.inf
    assert scores["aligned"].tolist() == [[never, 3, never, never]]  # the table proposes 1 alone
    assert scores["aligned_without_table"].tolist() == [[never, 1, 3, never]]
    assert scores["retriever_novel"].tolist() == [[never, 1, 3, never]]


def test_a_user_counts_the_same_wherever_it_is_asked() -> None:
    resamples = Resamples(20, 3)
    together = resamples.weights(pa.array(["u", "v", "w"]))
    assert together.shape == (3, 21)
    assert (resamples.weights(pa.array(["w"]))[0] == together[2]).all()
    assert (Resamples(20, 4).weights(pa.array(["w"]))[0] != together[2]).any()
