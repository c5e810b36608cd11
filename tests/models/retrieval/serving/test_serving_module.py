"""The SavedModel against slow, obvious answers in NumPy."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.interests.novelty_table import NoveltyTable
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.item_statistics import ItemStatistics
from models.retrieval.retriever import RetrieverModel, tf
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.serving.serving_module import ServingModule, export_saved_model

ITEMS, CLUSTERS, K, LENGTH = 30, 5, 4, 3
RNG = np.random.default_rng(0)
IDS = np.array([f"id-{index}" for index in RNG.permutation(ITEMS)])
IDS[:2] = ["новый\nпредмет", "with space"]
# Cluster 4 has no eligible item, cluster 3 has no item at all.
ITEM_CLUSTERS = RNG.choice([0, 1, 2, 4], ITEMS).astype(np.int32)
FEATURES = np.random.default_rng(1).normal(size=[ITEMS, 3]).astype(np.float32)
CATALOGUE = Catalogue(
    IDS, ITEM_CLUSTERS, (RNG.random(ITEMS) < 0.8) & (ITEM_CLUSTERS != 4), FEATURES
)
# Few distinct ones, so that popularity has ties; 0 are items that are new.
COUNTS = RNG.integers(0, 4, ITEMS)

# The table prefers clusters without items, and ends in a pad.
NOVEL = np.full([CLUSTERS, CLUSTERS, CLUSTERS], -1, np.int32)
for older in range(CLUSTERS):
    for newer in range(CLUSTERS):
        others = [cluster for cluster in (4, 3, 1, 2, 0) if cluster not in (older, newer)]
        NOVEL[older, newer, : len(others)] = others
PROBABILITY = RNG.random(NOVEL.shape).astype(np.float32)
TABLE = NoveltyTable(NOVEL, PROBABILITY, [f"description {c}" for c in range(CLUSTERS)])

CANDIDATES, WEIGHTS = 3, np.array([0.5, 1.5, 0.25], np.float32)

Row = dict[str, Any]


@pytest.fixture(scope="module")
def model() -> RetrieverModel:
    config = RetrieverConfig(dimension=8, layers=1, max_length=LENGTH)
    model = RetrieverModel(config, CATALOGUE, ItemStatistics.timeless(COUNTS))
    # Embeddings as large as trained ones: scores then differ by more than rounding.
    for weights in (model.items.item, model.items.cluster, model.items.feature):
        weights.assign(tf.random.stateless_normal(weights.shape, seed=[1, 2]))
    return model


def module(model: RetrieverModel, table: NoveltyTable = TABLE, k: int = K) -> ServingModule:
    made = ServingModule(model, CATALOGUE, table, k, CANDIDATES)
    made.alignment.assign(WEIGHTS)
    return made


@pytest.fixture(scope="module")
def path(model: RetrieverModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retrieval") / "saved_model"
    export_saved_model(module(model), path)
    return path


@pytest.fixture(scope="module")
def served(path: Path) -> Any:
    return tf.saved_model.load(str(path))


def call(served: Any, name: str, history: list[str], cluster_ids: list[int] | None = None) -> Row:
    inputs = {"history": tf.constant([history], tf.string, shape=[1, len(history)])}
    if cluster_ids is not None:
        inputs["cluster_ids"] = tf.constant([cluster_ids], tf.int32, shape=[1, len(cluster_ids)])
    return {key: out.numpy()[0] for key, out in served.signatures[name](**inputs).items()}


def expected_items(model: RetrieverModel, history: list[str], cluster_ids: list[int]) -> Row:
    """Score everything, mask, sort."""
    index_of = {item_id: index for index, item_id in enumerate(IDS)}
    seen = [index_of[item_id] for item_id in history if item_id in index_of]
    recent = seen[-LENGTH:]
    padded = tf.constant([recent + [0] * (LENGTH - len(recent))], tf.int32)
    query = model.query(model.items(padded)[..., :-1], tf.constant([len(recent)]))
    scores = tf.linalg.matvec(model.items(tf.range(ITEMS)), query[0]).numpy()
    allowed = CATALOGUE.eligible & np.isin(ITEM_CLUSTERS, cluster_ids)
    allowed[seen] = False
    ranking = sorted(np.flatnonzero(allowed), key=lambda index: (-scores[index], index))[:K]
    missing = K - len(ranking)
    return {
        "item_ids": [IDS[index].encode() for index in ranking] + [b""] * missing,
        "scores": [float(scores[index]) for index in ranking] + [-np.inf] * missing,
    }


def expected_interest(history: list[str]) -> Row:
    """Walk the pairs of interests from the newest, then the list of each from its start."""
    cluster_of = dict(zip(IDS.tolist(), ITEM_CLUSTERS.tolist(), strict=True))
    known = [cluster_of[item_id] for item_id in history if item_id in cluster_of]
    recent = list(dict.fromkeys(reversed(known)))
    pairs = [(c1, c2) for older, c1 in enumerate(recent) for c2 in recent[:older]]
    pairs = pairs or [(c, c) for c in recent]
    with_items = set(ITEM_CLUSTERS[CATALOGUE.eligible].tolist())
    for allowed in (with_items, set(range(CLUSTERS))):
        for c1, c2 in pairs:
            for rank, cluster in enumerate(NOVEL[c1, c2].tolist()):
                if cluster in allowed and cluster not in known:
                    return {
                        "novel_cluster": cluster,
                        "description": TABLE.descriptions[cluster].encode(),
                        "probability": PROBABILITY[c1, c2, rank],
                        "c1": c1,
                        "c2": c2,
                        "propensity": 1,
                    }
    c1, c2 = pairs[0] if pairs else (-1, -1)
    nothing = {"novel_cluster": -1, "description": b"", "probability": 0.0}
    return nothing | {"c1": c1, "c2": c2, "propensity": 1}


def assert_same(answer: Row, expected: Row) -> None:
    assert answer.keys() == expected.keys()
    assert list(answer["item_ids"]) == list(expected["item_ids"])
    np.testing.assert_allclose(answer["scores"], expected["scores"], rtol=1e-4, atol=1e-4)
    for name in expected.keys() - {"item_ids", "scores"}:
        assert answer[name] == expected[name], name


histories = st.lists(st.sampled_from([*IDS.tolist(), "", "unheard of"]), max_size=12)
quick = settings(
    max_examples=50,  # the brute force takes 40 ms
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@quick
@given(history=histories, cluster_ids=st.lists(st.integers(-1, CLUSTERS + 1), max_size=6))
def test_recommend_equals_brute_force(
    served: Any, model: RetrieverModel, history: list[str], cluster_ids: list[int]
) -> None:
    answer = call(served, "recommend", history, cluster_ids)
    assert_same(answer, expected_items(model, history, cluster_ids))


@quick
@given(history=histories)
def test_explore_equals_brute_force(served: Any, model: RetrieverModel, history: list[str]) -> None:
    interest = expected_interest(history)
    stranger = interest["c2"] == -1  # gets the most popular of all
    clusters = list(range(CLUSTERS)) if stranger else [interest["novel_cluster"]]
    items = expected_items(model, history, clusters)
    assert_same(call(served, "explore", history), interest | items)


def of_cluster(cluster: int) -> list[str]:
    return IDS[cluster == ITEM_CLUSTERS].tolist()


def test_cluster_engaged_with_long_before_the_transformer_looks_is_known(served: Any) -> None:
    history = [of_cluster(1)[0], *of_cluster(0)[:2], *of_cluster(2)[:2], of_cluster(0)[0]]
    assert len(history) > LENGTH
    answer = call(served, "explore", history)
    # Only 3 and 4 are new then, and neither has an item to recommend.
    assert (answer["c1"], answer["c2"], answer["novel_cluster"]) == (2, 0, 4)
    assert set(answer["item_ids"]) == {b""}


def test_a_cluster_with_items_goes_before_a_likelier_one_without(served: Any) -> None:
    assert NOVEL[0, 0].tolist() == [4, 3, 1, 2, -1]
    answer = call(served, "explore", [of_cluster(0)[0]])
    assert answer["novel_cluster"] == 1
    assert answer["probability"] == PROBABILITY[0, 0, 2]


def test_sampled_interest_comes_with_its_items_as_any(served: Any) -> None:
    history = [of_cluster(4)[0], of_cluster(0)[0]]
    seeds = tf.range(5, dtype=tf.int64)
    batch = served.signatures["explore_sampled"](
        history=tf.constant([history] * len(seeds)), seed=seeds
    )
    for row in range(len(seeds)):  # a user with one pair gets its answer, whatever is drawn
        assert_same(
            {name: out.numpy()[row] for name, out in batch.items()},
            call(served, "explore", history),
        )


def test_pooled_interest_of_a_user_with_one_pair_is_that_of_the_pair(served: Any) -> None:
    history = [of_cluster(4)[0], of_cluster(0)[0]]
    pooled, newest = (call(served, name, history) for name in ("explore_pooled", "explore"))
    for name in newest.keys() - {"probability"}:
        assert np.array_equal(pooled[name], newest[name]), name


@quick
@given(history=histories)
def test_aligned_interest_has_the_highest_score_of_what_may_be_recommended(
    served: Any, history: list[str]
) -> None:
    rows = tf.constant([history], tf.string, [1, len(history)])
    scored = served.signatures["score_clusters"](history=rows)
    able = scored["candidates"][0].numpy() & scored["recommendable"].numpy()
    answer = call(served, "explore_aligned", history)
    if not able.any():
        assert answer["novel_cluster"] == -1
        return
    scores = np.where(able, scored["parts"][0].numpy() @ WEIGHTS, -np.inf)
    assert answer["novel_cluster"] == np.argmax(scores)
    share = np.exp(scores - scores.max())
    assert answer["probability"] == pytest.approx(np.max(share) / share.sum(), rel=1e-4)
    known = {ITEM_CLUSTERS[IDS.tolist().index(item)] for item in history if item in IDS}
    assert answer["novel_cluster"] not in known


def test_parts_are_of_the_table_the_user_and_popularity(served: Any, model: RetrieverModel) -> None:
    history = [of_cluster(4)[0], of_cluster(0)[0]]
    scored = served.signatures["score_clusters"](history=tf.constant([history]))
    assert scored["candidates"][0].numpy().tolist() == [False, True, True, True, False]
    assert scored["recommendable"][0].numpy().tolist() == [False, True, True, False, False]
    table, user, recent = np.moveaxis(scored["parts"][0].numpy(), -1, 0)
    ratio = PROBABILITY[4, 0, NOVEL[4, 0] == 1] / PROBABILITY[4, 0, NOVEL[4, 0] == 2]
    assert table[1] - table[2] == pytest.approx(float(np.log(ratio)[0]), abs=1e-3)
    for cluster in (0, 1, 2):
        items = CATALOGUE.eligible & (cluster == ITEM_CLUSTERS)
        share = (COUNTS[items] + 1).sum() / (COUNTS + 1).sum()
        assert recent[cluster] == pytest.approx(np.log(share), rel=1e-4)
    assert user[3] == user[4] == recent[3] == 0  # nothing to recommend


def test_ineligible_items_count_as_history(served: Any) -> None:
    item_id = of_cluster(4)[0]
    assert not CATALOGUE.eligible[IDS.tolist().index(item_id)]
    assert call(served, "explore", [item_id])["c2"] == 4


@pytest.mark.parametrize("history", [[], [""], ["unheard of", ""]])
def test_history_with_nothing_known_ranks_by_popularity_ties_by_index(
    served: Any, history: list[str]
) -> None:
    able = np.flatnonzero(CATALOGUE.eligible)
    popular = sorted(able, key=lambda index: (-COUNTS[index], index))[:K]
    assert len(set(COUNTS[popular])) < K  # there are ties
    answer = call(served, "recommend", history, list(range(CLUSTERS)))
    assert answer["item_ids"].tolist() == [IDS[index].encode() for index in popular]


def test_items_that_are_new_are_answered_by_their_cluster_and_features(
    served: Any, model: RetrieverModel
) -> None:
    seen = np.flatnonzero(COUNTS)
    latest = model.items(tf.constant([seen[-LENGTH:]]))[..., :-1]
    query = model.query(latest, tf.constant([LENGTH]))[0].numpy()
    answer = call(served, "recommend", IDS[seen].tolist(), list(range(CLUSTERS)))
    assert answer["item_ids"][0]
    for item_id, score in zip(answer["item_ids"], answer["scores"], strict=True):
        if item_id:
            index = IDS.tolist().index(item_id.decode())
            vector = model.items.cluster.numpy()[ITEM_CLUSTERS[index]]
            vector = vector + FEATURES[index] @ model.items.feature.numpy()
            [popularity] = model.statistics.now(tf.constant(index)).numpy()
            assert score == pytest.approx(query @ [*vector, popularity], rel=1e-4)


def test_blocked_clusters_change_the_answer_without_a_history_alone(
    served: Any, model: RetrieverModel, tmp_path: Path
) -> None:
    """Which says too that two exports give the same answers."""
    export_saved_model(module(model, replace(TABLE, blocked=(0, 2))), tmp_path)
    blocked = tf.saved_model.load(str(tmp_path))
    able = np.flatnonzero(CATALOGUE.eligible & (ITEM_CLUSTERS == 1))
    popular = sorted(able, key=lambda index: (-COUNTS[index], index))[:K]
    answer = call(blocked, "explore", [])
    assert [item.decode() for item in answer["item_ids"] if item] == IDS[popular].tolist()
    for name, out in call(served, "explore", ["id-3"]).items():
        np.testing.assert_array_equal(out, call(blocked, "explore", ["id-3"])[name])


def test_rows_of_a_batch_are_answered_as_alone(served: Any) -> None:
    rows = [["", "id-3", "id-4"], ["id-5", "", ""], ["", "", ""], ["unheard of", "id-9", "id-3"]]
    batch = served.signatures["explore"](history=tf.constant(rows))
    for row, history in enumerate(rows):
        assert_same(
            {name: out.numpy()[row] for name, out in batch.items()},
            call(served, "explore", history),
        )


def test_empty_batch_gives_an_empty_answer(served: Any) -> None:
    answer = served.signatures["explore"](history=tf.zeros([0, 2], tf.string))
    assert answer["item_ids"].shape == (0, K)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("recommend", {"cluster_ids": tf.zeros([2, 1], tf.int32)}),
        ("explore_sampled", {"seed": tf.zeros([2], tf.int64)}),
    ],
)
def test_inputs_of_different_lengths_are_an_error(
    served: Any, name: str, given: dict[str, tf.Tensor], rows: int
) -> None:
    history = tf.constant([["id-3"]] * rows)
    message = f"{next(iter(given))} must have one row for each row of history"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        served.signatures[name](history=history, **given)


def test_signatures_are_those_of_the_contract(served: Any) -> None:
    def described(specs: dict[str, tf.TensorSpec]) -> dict[str, tuple[tf.DType, list[int | None]]]:
        return {name: (spec.dtype, spec.shape.as_list()) for name, spec in specs.items()}

    history = {"history": (tf.string, [None, None])}
    items = {"item_ids": (tf.string, [None, K]), "scores": (tf.float32, [None, K])}
    recommend = served.signatures["recommend"]
    inputs = described(recommend.structured_input_signature[1])
    assert inputs == history | {"cluster_ids": (tf.int32, [None, None])}
    assert described(recommend.structured_outputs) == items
    explore, sampled, pooled = (
        served.signatures[name] for name in ("explore", "explore_sampled", "explore_pooled")
    )
    aligned, scored = (served.signatures[name] for name in ("explore_aligned", "score_clusters"))
    for one in (explore, pooled, aligned, scored):
        assert described(one.structured_input_signature[1]) == history
    for one in (pooled, aligned):
        assert described(one.structured_outputs) == described(explore.structured_outputs)
    assert described(scored.structured_outputs) == {
        "parts": (tf.float32, [None, CLUSTERS, 3]),
        "candidates": (tf.bool, [None, CLUSTERS]),
        "recommendable": (tf.bool, [None, CLUSTERS]),
    }
    seed = {"seed": (tf.int64, [None])}
    assert described(sampled.structured_input_signature[1]) == history | seed
    assert described(sampled.structured_outputs) == described(explore.structured_outputs)
    assert described(explore.structured_outputs) == items | {
        "novel_cluster": (tf.int32, [None]),
        "description": (tf.string, [None]),
        "probability": (tf.float32, [None]),
        "c1": (tf.int32, [None]),
        "c2": (tf.int32, [None]),
        "propensity": (tf.float32, [None]),
    }


PLAIN_TENSORFLOW = """
import os, sys
sys.modules.update(dict.fromkeys(("tf_keras", "tensorflow_recommenders", "models")))  # blocked
import tensorflow as tf
explore = tf.saved_model.load(sys.argv[1]).signatures["explore"]
print(explore(history=tf.constant([[sys.argv[2]]]))["description"].numpy()[0].decode())
assert "TF_USE_LEGACY_KERAS" not in os.environ
"""


def test_loads_in_plain_tensorflow(path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PLAIN_TENSORFLOW, str(path), of_cluster(0)[0]],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "description 1"


def test_items_outside_the_table_are_an_error(model: RetrieverModel) -> None:
    small = NoveltyTable(NOVEL[:3, :3] % 3, PROBABILITY[:3, :3], ["a", "b", "c"])
    with pytest.raises(ValueError, match="cluster 4"):
        module(model, small)


def test_no_items_in_an_answer_is_an_error(model: RetrieverModel) -> None:
    with pytest.raises(ValueError, match="k is 0"):
        module(model, k=0)
