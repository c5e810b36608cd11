"""train_retrieval as a whole: on a small shop, killed, and on clusters that have changed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from models.retrieval.training import training_loop
from pipelines.launch.workspace import Workspace
from tests import contract
from tests.pipelines import small
from tests.pipelines.small import train
from transforms.retrieval import train_retriever

NEW = "sku-0-new"
HISTORY = ["sku-0-1", "sku-1-2", "sku-1-3"]


@pytest.fixture(scope="module")
def clustered(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with all that the stage reads."""
    return copy(shop / "workspace", tmp_path_factory.mktemp("clustered"))


@pytest.fixture(scope="module")
def trained(shop: Path) -> Path:
    return shop / "workspace"


def copy(workspace: Path, folder: Path) -> Path:
    """Copy what the stage reads."""
    folder.mkdir(exist_ok=True)
    shutil.copy(workspace.parent / "log.parquet", folder)
    for stage in ("clusters", "transitions", "novelty_table"):
        shutil.copytree(workspace / stage, folder / "w" / stage)
    return folder / "w"


@pytest.fixture(scope="module")
def grown(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a trained workspace with an item and purchases that came later; to be copied."""
    folder = tmp_path_factory.mktemp("grown")
    shutil.copytree(trained, folder / "w")
    hose = next(item for item in small.items() if item["item_id"] == "sku-0-1")
    items = small.write(folder / "items.parquet", [*small.items(), hose | {"item_id": NEW}])
    purchases = [row | {"item_id": NEW} for row in small.interactions()[::8]]  # of each user
    log = small.write(folder / "log.parquet", small.interactions() + purchases)
    assert small.build(folder / "w", items, log) == 0
    assert small.mine(folder / "w", log) == 0
    small.write_novelty_table(Workspace(str(folder / "w")))
    return folder / "w"


def answer(workspace: Path, history: list[str]) -> dict[str, np.ndarray]:
    import tensorflow as tf

    model = tf.saved_model.load(str(workspace / "retrieval" / "saved_model"))
    answer = model.signatures["recommend"](
        history=tf.constant([history], tf.string, [1, len(history)]),
        cluster_ids=tf.constant([list(range(6))]),
    )
    return {name: output.numpy()[0] for name, output in answer.items()}


def scores(workspace: Path) -> np.ndarray:
    return answer(workspace, HISTORY)["scores"]


def test_the_stage_leaves_its_model_and_history_alone(trained: Path) -> None:
    manifest = small.manifest(trained, "retrieval")
    rows = contract.read(trained / "retrieval" / "history.parquet")
    assert manifest["rows"]["written"] == len(rows) == 2
    assert manifest["rows"]["read"] == sum(
        len(row["item_ids"]) for row in contract.read(trained / "transitions" / "sequences")
    )
    listed = {file["path"] for file in manifest["files"]}
    assert "saved_model/saved_model.pb" in listed
    assert not (trained / "unfinished" / "train_retrieval").exists()
    assert np.isfinite(scores(trained)).all()


def test_refresh_answers_with_a_new_item_without_training(
    grown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed and run again it does the same, and after that it has nothing to do."""
    workspace = shutil.copytree(grown, tmp_path / "w")
    monkeypatch.delattr(training_loop, "train_retriever")
    with monkeypatch.context() as patch:
        patch.delattr(train_retriever, "read_novelty_table")
        with pytest.raises(NameError):
            train(workspace, "--refresh")
    assert not (workspace / "retrieval" / "manifest.json").exists()
    assert train(workspace, "--refresh") == 0
    for name in ("weights.safetensors", "history.parquet"):
        kept, before = (path / "retrieval" / name for path in (workspace, grown))
        assert kept.read_bytes() == before.read_bytes()
    assert answer(workspace, [])["item_ids"][0].decode() == NEW  # the most popular one now
    assert answer(workspace, [NEW])["scores"][0] != answer(workspace, [])["scores"][0]
    manifest = small.manifest(workspace, "retrieval")
    assert train(workspace, "--refresh") == 0
    assert small.manifest(workspace, "retrieval") == manifest


def test_refresh_without_a_training_or_with_other_settings_is_refused(
    clustered: Path, grown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(copy(clustered, tmp_path / "untrained"), "--refresh") == 2
    assert "train without --refresh first" in capsys.readouterr().err
    workspace = shutil.copytree(grown, tmp_path / "other")
    assert train(workspace, "--refresh", "--retriever_layers=2") == 2
    assert "trained with other settings (layers)" in capsys.readouterr().err


def test_clusters_that_changed_since_are_refused(
    clustered: Path, mined: Path, tmp_path: Path, capsys
) -> None:
    workspace = copy(clustered, tmp_path)
    shutil.rmtree(workspace / "clusters")
    shutil.copytree(mined / "workspace" / "clusters", workspace / "clusters")
    assert train(workspace) == 2
    assert "transitions was built from other clusters than there are now" in (
        capsys.readouterr().err
    )


def test_shards_of_other_clusters_are_one_line(
    clustered: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the clusters are made anew while the job runs."""
    workspace = copy(clustered, tmp_path)
    monkeypatch.setattr(
        "transforms.retrieval.write_sequence_shards.vocabulary", lambda *item_clusters: "another"
    )
    assert train(workspace) == 2
    assert "are of other items or clusters (vocabulary another)" in capsys.readouterr().err
