"""build_clusters as a whole: its figures, a fit on a sample, and a run beside an earlier one."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from emulators.fixtures import Storage
from pipelines import build_clusters
from pipelines.launch import runner
from tests import contract
from tests.pipelines import small
from transforms.storage import files

Run = Callable[..., Path]


def test_a_file_is_no_text_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"item_id": "a", "title": "tea"}]
    (tmp_path / "model.gguf").touch()
    given = [
        f"--workspace={tmp_path / 'w'}",
        f"--items={small.write(tmp_path / 'items.parquet', items)}",
        f"--interactions={small.write(tmp_path / 'log.parquet', small.interactions())}",
        f"--text_encoder={tmp_path / 'model.gguf'}",
    ]
    assert build_clusters.STAGE.main(given) == 2
    assert "model.gguf is a file; give a model folder" in capsys.readouterr().err


def more_items(count: int) -> list[small.Row]:
    """Return items near some of the shop's, under ids of their own."""
    rng = np.random.default_rng(3)
    old = small.items()
    return [
        {
            **old[7 * number % len(old)],
            "item_id": f"new-{number}",
            "embedding": np.add(old[7 * number % len(old)]["embedding"], rng.normal(0, 0.05, 8)),
        }
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop")


@pytest.fixture(scope="module")
def run(shop: Path) -> Run:
    """Build the clusters of a workspace from items and return it."""
    log = small.write(shop / "log.parquet", small.interactions())

    def build(name: str, items: list[small.Row], *flags: str, code: int = 0) -> Path:
        path = small.write(shop / f"{name}-items.parquet", items)
        assert small.build(shop / name, path, log, *flags) == code
        return shop / name

    return build


@pytest.fixture(scope="module")
def first(mined: Path, shop: Path) -> Path:
    shutil.copytree(mined / "workspace" / "clusters", shop / "first" / "clusters")
    return shop / "first"


def mapping(workspace: Path) -> list[tuple[int | None, int | None]]:
    rows = contract.read(workspace / "clusters" / "mapping.parquet")
    return [(row["old_id"], row["new_id"]) for row in rows]


def test_the_manifest_says_how_good_the_clusters_are(first: Path) -> None:
    contract.check_clusters(first)
    figures = small.manifest(first, "clusters")["figures"]
    assert all(0.9 < value <= 1 for value in figures["coherence"][1:])
    assert "unchanged" not in figures


def test_clusters_are_named_by_the_sample_and_carry_about_equal_traffic(run: Run) -> None:
    named = run("named", small.items() + more_items(300), "--cluster_sample_size=80")
    contract.check_clusters(named)
    assert len(contract.read(named / "clusters" / "item_clusters")) == 360
    words = {word for name in small.AISLES for word in name.split()}
    for row in contract.read(named / "clusters" / "clusters.parquet"):
        assert {word for keyword in row["keywords"] for word in keyword.split()} <= words
    assert max(small.manifest(named, "clusters")["figures"]["balance"]) < 2


@pytest.fixture(scope="module")
def twice(shop: Path) -> Path:
    """Items in three files; some come again with another title, in the same file or another."""
    folder, rows = shop / "twice", small.items()
    again = [{**row, "title": f"second {row['title']}"} for row in rows[5:40:7]]
    for number, part in enumerate((rows[:25] + again[:1], rows[25:], again[1:])):
        small.write(folder / f"{number}.parquet", part)
    return folder


@pytest.fixture(scope="module")
def each_once(shop: Path, twice: Path) -> Path:
    """Return a workspace of these items, fitted on a sample that is all of them."""
    assert small.build(shop / "once", twice, shop / "log.parquet", "--cluster_sample_size=60") == 0
    return shop / "once"


def test_a_sample_of_all_items_gives_the_bytes_of_none(first: Path, each_once: Path) -> None:
    assert small.digests(each_once / "clusters") == small.digests(first / "clusters")


def test_each_item_is_taken_and_its_traffic_counted_once(each_once: Path) -> None:
    dead = small.dead_letter(each_once, "build_clusters")
    assert sorted(row["title"] for row in dead) == sorted(
        f"second {row['title']}" for row in small.items()[5:40:7]
    )
    clusters_of = {
        row["item_id"]: row["cluster_ids"]
        for row in contract.read(each_once / "clusters" / "item_clusters")
    }
    traffic = Counter(
        (level, cluster)
        for row in small.interactions()
        for level, cluster in enumerate(clusters_of[row["item_id"]])
    )
    for row in contract.read(each_once / "clusters" / "clusters.parquet"):
        assert row["traffic"] == traffic[row["level"], row["cluster_id"]]


def test_items_kept_in_memory_give_the_same_bytes_as_in_files(
    shop: Path, twice: Path, each_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = shop / "in-memory"
    monkeypatch.setattr(runner, "_LOCAL_RUNNERS", ())
    assert small.build(in_memory, twice, shop / "log.parquet", "--cluster_sample_size=60") == 0
    assert small.digests(in_memory / "clusters") == small.digests(each_once / "clusters")
    dead = [small.dead_letter(folder, "build_clusters") for folder in (each_once, in_memory)]
    assert dead[0] == dead[1]
    assert len(dead[0]) == 5


def test_a_rerun_on_the_same_items_keeps_every_cluster_wherever_the_earlier_run_lies(
    first: Path, run: Run, shop: Path
) -> None:
    same = run("same", small.items(), f"--previous_workspace={first}")
    assert mapping(same) == [(number, number) for number in range(6)]
    before, after = (small.digests(folder / "clusters") for folder in (first, same))
    assert after.pop("mapping.parquet")
    assert after == before

    manifest = same / "clusters" / "manifest.json"
    written = manifest.read_text()
    elsewhere = first.rename(shop / "elsewhere")
    try:
        run("same", small.items(), f"--previous_workspace={elsewhere}")
        assert manifest.read_text() == written
    finally:
        elsewhere.rename(first)
    run("same", small.items())
    assert "previous_workspace" not in json.loads(manifest.read_text())["inputs"]
    assert not (same / "clusters" / "mapping.parquet").exists()


@pytest.fixture(scope="module")
def grown(first: Path, run: Run) -> Path:
    return run("grown", small.items() + more_items(6), f"--previous_workspace={first}")


def test_a_rerun_with_more_items_keeps_what_did_not_change(first: Path, grown: Path) -> None:
    contract.check_clusters(grown)
    contract.check_mapping(grown, first)
    assert sum(old == new for old, new in mapping(grown)) >= 5
    figures = small.manifest(grown, "clusters")["figures"]
    assert figures["unchanged"][1] == sum(old == new for old, new in mapping(grown))


@pytest.fixture(scope="module")
def remote(first: Path, storage: Storage) -> str:
    """Return the first workspace's clusters at gs://, with all that belongs to them."""
    root = f"gs://{storage.bucket}/earlier"
    for path in sorted((first / "clusters").rglob("*")):
        if path.is_file():
            files.copy_from(path, files.join(root, str(path.relative_to(first))))
    return root


def test_an_earlier_run_may_lie_in_cloud_storage(grown: Path, remote: str, run: Run) -> None:
    far = run("far", small.items() + more_items(6), f"--previous_workspace={remote}")
    assert small.digests(far / "clusters") == small.digests(grown / "clusters")
    assert mapping(far) == mapping(grown)


def test_an_earlier_run_in_cloud_storage_that_was_altered_is_one_line(
    remote: str, run: Run, capsys
) -> None:
    path = f"{remote}/clusters/clusters.parquet"
    content = files.read_bytes(path)
    files.write_bytes(path, content[:-1] + bytes([content[-1] ^ 1]))
    try:
        run("altered", small.items(), f"--previous_workspace={remote}", code=2)
    finally:
        files.write_bytes(path, content)
    assert "clusters/clusters.parquet is missing or was altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("previous", "flags", "message"),
    [
        ("nowhere", (), "nowhere/clusters is not complete"),
        ("first", ("--clusters=3,5",), "--clusters=3,5: --previous_workspace="),
        ("refused", (), "is the workspace of this run"),
    ],
)
def test_an_earlier_run_that_cannot_be_used_is_one_line(
    first: Path, run: Run, shop: Path, capsys, previous: str, flags: tuple[str, ...], message: str
) -> None:
    run("refused", small.items(), f"--previous_workspace={shop / previous}", *flags, code=2)
    assert message in capsys.readouterr().err


def test_an_earlier_run_on_other_items_is_one_line(first: Path, run: Run, capsys) -> None:
    strangers = [{**row, "item_id": f"other {row['item_id']}"} for row in small.items()]
    run("strangers", strangers, f"--previous_workspace={first}", "--max_dead_share=1", code=2)
    assert "knows none of the items" in capsys.readouterr().err
