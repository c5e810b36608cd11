"""Every stage on a disk that is full, and on one that is read-only, as real processes."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.launch.workspace import PIPELINES
from tests.faults import jobs
from tests.models.language.tiny_llm import save_tiny_llm
from tests.pipelines import small

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

FOLDERS = list(PIPELINES)
EXTRA_KIBIBYTES = 16  # that are free on a full disk


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return the flags of each pipeline, for a small shop and a tiny language model."""
    folder = tmp_path_factory.mktemp("input")
    items = small.write(folder / "items.parquet", small.items())
    log = small.write(folder / "log.parquet", small.interactions())
    # vLLM has no attention kernel for heads of fewer than 32 dimensions.
    base_model = save_tiny_llm(folder / "base_model", width=64)
    interactions = f"--interactions={log}"
    of_steps = ("max_steps=2", "warmup_steps=1", "eval_every=2", "batch_size=4")
    of_measures = ("eval_prompts=2", "eval_examples=4", "affinity_pairs=2")
    return {
        "build_clusters": [
            *(interactions, f"--items={items}", f"--base_model={base_model}"),
            *("--clusters=3,6", "--text_encoder=none, the items have embeddings"),
        ],
        "mine_transitions": [interactions, "--examples_per_cluster=10"],
        "finetune": [f"--finetune_{flag}" for flag in (*of_steps, *of_measures)],
        "build_novelty_table": ["--clusters_per_pair=4"],
        "train_retrieval": ["--retriever_epochs=2", "--retriever_dimension=8"],
        "evaluate": ["--bootstrap_samples=50", "--simulation_users=20", "--simulation_days=2"],
        "recommend": ["--ignore_gates"],
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, flags: dict[str, list[str]]) -> Path:
    workspace = tmp_path_factory.mktemp("undisturbed")
    for pipeline in PIPELINES.values():
        code, said = jobs.end(jobs.start(pipeline, workspace, flags[pipeline]))
        assert code == 0, said
    return workspace


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """Where the jobs of a test put temporary files; empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == []


def hashes(folder: Path) -> dict[str, str]:
    """Hash all files but the manifest, which tells the time, and TensorFlow's fingerprint."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "fingerprint.pb")
    }


def on_a_disk(
    workspace: Path, options: str, temporary: Path, command: list[str]
) -> tuple[int, str]:
    """Run a command with the workspace on a disk of its own, remounted with options before."""
    source, kept = workspace.with_name("source"), workspace.with_name("kept")
    script = f"""
        mount -t tmpfs -o size=1g none {workspace} && cp -r {source}/. {workspace} || exit 99
        used=$(df --output=used -k {workspace} | tail -n 1)
        mount -o remount,{options} {workspace} || exit 98
        TMPDIR={temporary} "$@"
        code=$?; cp -r {workspace} {kept}; exit $code
    """
    workspace.rename(source)
    workspace.mkdir()
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    workspace.rmdir()
    kept.rename(workspace)
    shutil.rmtree(source)
    return done.returncode, done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_full_and_a_read_only_disk_are_one_line_and_lose_nothing(
    undisturbed: Path,
    flags: dict[str, list[str]],
    tmp_path: Path,
    temporary: Path,
    folder: str,
) -> None:
    workspace, pipeline = tmp_path / "workspace", PIPELINES[folder]
    workspace.mkdir()
    for earlier in FOLDERS[: FOLDERS.index(folder)]:
        shutil.copytree(undisturbed / earlier, workspace / earlier)
    own = [f"--workspace={workspace}", *flags[pipeline]]
    command = [sys.executable, "-m", f"pipelines.{pipeline}", *own]
    for options, error in (
        (f"size=$((used + {EXTRA_KIBIBYTES}))k", "No space left on device"),
        ("ro", "Read-only file system"),
    ):
        code, said = on_a_disk(workspace, options, temporary, command)
        assert (code, "Traceback" in said) == (1, False), said
        last = said.splitlines()[-1]
        assert last.startswith("error: "), said
        assert error in last
    job = jobs.start(pipeline, workspace, flags[pipeline], temporary)
    code, said = jobs.end(job)
    assert code == 0, said
    assert hashes(workspace / folder) == hashes(undisturbed / folder)
