"""train_retrieval as a whole: on a small shop, killed, and on clusters that have changed."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import contract
from tests.pipelines import small
from tests.pipelines.small import train
from transforms.storage.folders import Scratch

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
    shutil.copy(workspace.parent / "log.parquet", folder)
    for stage in ("clusters", "transitions", "novelty_table"):
        shutil.copytree(workspace / stage, folder / "w" / stage)
    return folder / "w"


def scores(workspace: Path) -> np.ndarray:
    import tensorflow as tf

    model = tf.saved_model.load(str(workspace / "retrieval" / "saved_model"))
    answer = model.signatures["recommend"](
        history=tf.constant([HISTORY]), cluster_ids=tf.constant([list(range(6))])
    )
    return answer["scores"].numpy()


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


def test_killed_after_an_epoch_it_ends_with_the_same_model(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, saves = copy(trained, tmp_path), []

    def die_once(self: Scratch) -> None:
        saves.append(self.path)
        if len(saves) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Scratch, "save", die_once)
    with pytest.raises(BaseException, match=r"KeyboardInterrupt|^$"):
        train(workspace)
    shards = small.digests(workspace / "unfinished" / "train_retrieval" / "sequences")
    assert len(shards) == 64
    assert train(workspace) == 0
    assert len(saves) == 2  # an epoch each, none twice
    assert small.digests(workspace / "retrieval") == small.digests(trained / "retrieval")
    np.testing.assert_array_equal(scores(workspace), scores(trained))


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
