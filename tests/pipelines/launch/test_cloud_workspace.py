"""A workspace in Cloud Storage holds what a local one does, to the byte."""

import hashlib
import shutil
from pathlib import Path

import pytest

from emulators.fixtures import Cloud
from emulators.tables import rows
from pipelines import recommend
from pipelines.launch.workspace import Workspace
from tests.pipelines import small
from transforms import schemas as col
from transforms.storage import files
from transforms.storage.bigquery_client import client
from transforms.storage.folders import Scratch
from transforms.storage.stage_files import read_parts

# The first test waits for the workspace of all.
pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("model_in_process")]


def hashes(root: str) -> dict[str, str]:
    """Hash what must not differ between workspaces."""
    return {
        path.removeprefix(root).lstrip("/"): hashlib.sha256(files.read_bytes(path)).hexdigest()
        for path in files.list_folder(root)
        if path.endswith((".parquet", ".jsonl", ".safetensors", "alignment.json"))
    }


def recommended(root: str, *flags: str) -> int:
    return recommend.STAGE.main([f"--workspace={root}", "--output_shards=2", *flags])


@pytest.fixture(scope="module")
def local(model_in_process: None, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a local workspace."""
    root = str(shutil.copytree(shop / "workspace", tmp_path_factory.mktemp("local") / "w"))
    shutil.rmtree(f"{root}/language_model")
    assert recommended(root) == 0
    return root


@pytest.fixture(scope="module")
def remote(model_in_process: None, cloud: Cloud, shop: Path) -> str:
    """Return the same at gs://, whose training was killed after its first epoch."""
    root, saves = f"gs://{cloud.bucket}/some/where", []
    log = shop / "log.parquet"
    assert small.build(root, shop / "items.parquet", log, "--min_rating=2") == 0
    assert small.mine(root, log) == 0
    small.write_novelty_table(Workspace(root))
    save = Scratch.save

    def save_and_die(self: Scratch) -> None:
        save(self)
        saves.append(self.path)
        if len(saves) == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Scratch, "save", save_and_die)
        assert small.train(root) == 130
        assert not saves[0].exists()  # the disk of the worker
        assert small.train(root) == 0
    assert len(saves) == small.epochs_trained(root)  # none twice
    small.write_report(Workspace(root))
    assert recommended(root) == 0
    return root


def test_a_remote_workspace_has_the_bytes_of_a_local_one(local, remote: str) -> None:
    assert hashes(remote) == hashes(local)


def test_manifests_say_the_same(local, remote: str) -> None:
    for stage in ("clusters", "transitions", "recommendations"):
        here, there = (Workspace(root).manifest(stage) for root in (local, remote))
        for name in ("flags", "level", "rows", "dead_letter", "files"):
            assert here[name] == there[name]


def test_nothing_unfinished_is_left(remote: str) -> None:
    assert files.list_folder(f"{remote}/unfinished") == []


def test_a_second_run_does_nothing(local, remote: str, caplog) -> None:
    caplog.set_level("INFO", "interest-explorer")
    assert small.train(remote) == 0
    assert recommended(remote) == 0
    assert [line for line in caplog.messages if "nothing to do" in line] == [
        "train_retrieval: complete already, nothing to do",
        "recommend: complete already, nothing to do",
    ]


def test_an_altered_file_of_the_same_size_is_noticed(local, remote: str, capsys) -> None:
    path = f"{remote}/clusters/clusters.parquet"
    content = files.read_bytes(path)
    files.write_bytes(path, content[:-1] + bytes([content[-1] ^ 1]))
    assert recommended(remote, "--seed=1") == 2
    assert "clusters/clusters.parquet is missing or was altered" in capsys.readouterr().err
    files.write_bytes(path, content)


@pytest.mark.parametrize("at", ["local", "remote"])
def test_a_complete_stage_is_only_loaded(request, cloud: Cloud, local, caplog, at: str) -> None:
    root = local if at == "local" else request.getfixturevalue("remote")
    before, table = hashes(root), f"{cloud.dataset}.recs"
    caplog.set_level("INFO", "interest-explorer")
    for said in (f"complete already, loading it into {table}", "complete already, nothing to do"):
        assert recommended(root, f"--output_table={table}") == 0
        assert f"recommend: {said}" in caplog.messages
    expected = read_parts(f"{root}/recommendations", "", col.RECOMMENDATIONS)
    assert expected.num_rows
    by_user = [one.sort_by("user_id").to_pylist() for one in (rows(table), expected)]
    assert by_user[0] == by_user[1]
    assert client().get_table(table).num_rows == expected.num_rows
    assert hashes(root) == before
