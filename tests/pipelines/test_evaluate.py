"""The pipeline evaluate on the small shop, with a retriever trained in a moment."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from models.evaluation.policies.policy_names import OURS
from models.interests.alignment import ABLATIONS
from pipelines import evaluate
from tests import contract
from tests.pipelines import small

pytestmark = pytest.mark.usefixtures("model_in_process")

FLAGS = (
    *("--bootstrap_samples=20", "--min_users=3", "--seed=5"),
    *("--simulation_users=12", "--simulation_days=2", "--simulation_seeds=2"),
)
NAMES = {
    *("novelty_table", "novelty_table_prior", "novelty_table_pooled", "popularity", "markov_1"),
    *("markov_2", "naive_bayes", "pair_counts", "cluster_neighbours"),
    *("affinity", "affinity_pooled", "retriever", "retriever_novel", "llm_untuned"),
    *ABLATIONS,
}


def evaluated(shop: Path, workspace: Path, *flags: str) -> dict[str, Any]:
    """Run on a copy of the workspace and return metrics.json."""
    if not workspace.exists():
        shutil.copytree(shop / "workspace", workspace)
    given = (f"--workspace={workspace}", *FLAGS, *flags)
    assert evaluate.STAGE.main(list(given)) == 0
    return json.loads((workspace / "report" / "metrics.json").read_text())


@pytest.fixture(scope="module")
def first(model_in_process: None, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("first") / "workspace"
    evaluated(shop, workspace, f"--compare_table=llm_untuned={shop / 'workspace'}")
    return workspace


def metrics_of(workspace: Path) -> dict[str, Any]:
    return json.loads((workspace / "report" / "metrics.json").read_text())


def test_every_policy_has_every_metric(first: Path) -> None:
    contract.check_report(first, small.interactions())
    metrics = metrics_of(first)
    assert metrics["policies"].keys() == NAMES
    # In one order whatever the process hashes strings with: the bytes are the same every time.
    assert list(metrics["policies"])[-2:] == ["retriever", "retriever_novel"]
    for compared in metrics["paired"].values():
        assert compared.keys() == NAMES - set(OURS)
    for where, ours in (("paired_pooled", "novelty_table_pooled"), ("paired_aligned", "aligned")):
        for compared in metrics[where].values():
            assert compared.keys() == NAMES - {ours}


def test_transitions_are_those_that_were_mined(first: Path) -> None:
    metrics = metrics_of(first)
    mined = contract.read(first / "transitions" / "examples" / "test")
    assert metrics["transitions"] == metrics["items"]["examples"] == len(mined)
    by_label = [0] * metrics["clusters"]
    for row in mined:
        by_label[row["novel"]] += 1
    shown = [label["test_transitions"] for label in metrics["labels"]]
    assert shown == [count if count >= 3 else None for count in by_label]


def test_policies_are_simulated_for_held_out_users(first: Path) -> None:
    simulation = metrics_of(first)["simulation"]
    assert simulation["policies"].keys() == {
        *("novelty_table", "novelty_table_prior", "llm_untuned", "popularity", "markov_1"),
        *("naive_bayes", "no_exploration", "random", "hierarchical_bandit"),
        "neural_linear_bandit",
    }
    assert (simulation["users"], simulation["days"], simulation["seeds"]) == (12, 2, 2)
    days = simulation["policies"]["llm_untuned"]["novelty_rate"]
    assert days == simulation["policies"]["novelty_table"]["novelty_rate"]
    assert len(days) == 2


def test_items_are_looked_for_among_as_many_as_the_retriever_answers(first: Path) -> None:
    items = metrics_of(first)["items"]
    assert items["top"] == 3
    assert 0 < items["hit_rate"]["value"] < 1
    assert 0 < items["popularity_hit_rate"]["value"] < 1


@pytest.mark.parametrize("name", ["metrics.json", "index.html"])
def test_nobody_is_named(first: Path, name: str) -> None:
    text = (first / "report" / name).read_text()
    assert all(row["user_id"].startswith("customer ") for row in small.interactions())
    assert "customer" not in text


def test_the_table_that_is_given_twice_is_as_good_as_itself(first: Path) -> None:
    metrics = metrics_of(first)
    assert metrics["policies"]["llm_untuned"] == metrics["policies"]["novelty_table"]
    paired = metrics["paired"]["macro_recall_at_5"]["llm_untuned"]
    assert paired == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_any_workers_give_the_same_bytes(shop: Path, first: Path, tmp_path: Path) -> None:
    same = f"--compare_table=llm_untuned={shop / 'workspace' / 'novelty_table'}"
    evaluated(shop, tmp_path / "w", same, "--direct_num_workers=1")
    again, before = (
        (at / "report" / "metrics.json").read_bytes() for at in (tmp_path / "w", first)
    )
    assert again == before


def refused(shop: Path, *flags: str) -> None:
    assert evaluate.STAGE.main([f"--workspace={shop / 'workspace'}", *flags]) == 2


def test_a_history_of_fine_tuning_that_is_missing_is_refused(
    shop: Path, tmp_path: Path, capsys
) -> None:
    workspace = shutil.copytree(shop / "workspace", tmp_path / "w")
    (workspace / "language_model" / "history.parquet").unlink()
    assert evaluate.STAGE.main([f"--workspace={workspace}"]) == 2
    said = capsys.readouterr().err
    assert "language_model/history.parquet is missing or was altered" in said


def test_a_table_of_other_clusters_is_refused(shop: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "novelty_table"
    shutil.copytree(shop / "workspace" / "novelty_table", other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["inputs"]["clusters"] = "others"
    (other / "manifest.json").write_text(json.dumps(manifest))
    refused(shop, f"--compare_table=llm_untuned={other}")
    assert "was built from other clusters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (
            "--compare_table=llm_untuned=nowhere",
            "is neither a complete novelty_table nor a workspace",
        ),
        ("--simulation_exploring=11", "exploring is 11, more than the 10 slots"),
    ],
)
def test_what_does_not_fit_is_refused(shop: Path, flag: str, said: str, capsys) -> None:
    refused(shop, flag)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["popularity=folder", "no folder", "Untuned=folder", "no_exploration=folder"]
)
def test_names_that_are_no_policies_are_refused(text: str, capsys) -> None:
    with pytest.raises(SystemExit):
        evaluate.STAGE.main([f"--compare_table={text}", "--workspace=w"])
    assert "--compare_table" in capsys.readouterr().err
