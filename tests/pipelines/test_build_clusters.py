"""build_clusters as a whole: its figures, a fit on a sample, and a run beside an earlier one."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import contract
from tests.pipelines import small

Run = Callable[..., Path]


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
def first(run: Run) -> Path:
    return run("first", small.items())


def mapping(workspace: Path) -> list[tuple[int | None, int | None]]:
    rows = contract.read(workspace / "clusters" / "mapping.parquet")
    return [(row["old_id"], row["new_id"]) for row in rows]


def test_the_manifest_says_how_good_the_clusters_are(first: Path) -> None:
    contract.check_clusters(first)
    figures = small.manifest(first, "clusters")["figures"]
    assert all(0.9 < value <= 1 for value in figures["coherence"][1:])
    assert "unchanged" not in figures


def test_a_sample_of_all_items_gives_the_bytes_of_none(first: Path, run: Run) -> None:
    sampled = run("sampled", small.items(), "--fit_sample=60")
    assert small.digests(sampled / "clusters") == small.digests(first / "clusters")


def test_clusters_can_be_fitted_on_a_part_of_the_items(run: Run) -> None:
    part = run("part", small.items(), "--fit_sample=40")
    contract.check_clusters(part)
    assert len(contract.read(part / "clusters" / "item_clusters")) == 60


def test_a_rerun_on_the_same_items_keeps_every_cluster(first: Path, run: Run) -> None:
    same = run("same", small.items(), f"--previous={first}")
    assert mapping(same) == [(number, number) for number in range(6)]
    before, after = (small.digests(folder / "clusters") for folder in (first, same))
    assert after.pop("mapping.parquet")
    assert after == before


def test_a_rerun_with_more_items_keeps_what_did_not_change(first: Path, run: Run) -> None:
    grown = run("grown", small.items() + more_items(6), f"--previous={first}")
    contract.check_clusters(grown)
    contract.check_mapping(grown, first)
    assert sum(old == new for old, new in mapping(grown)) >= 5
    figures = small.manifest(grown, "clusters")["figures"]
    assert figures["unchanged"][1] == sum(old == new for old, new in mapping(grown))


def test_another_earlier_run_runs_it_again_and_another_place_does_not(
    first: Path, run: Run, shop: Path, capsys
) -> None:
    grown = run("again", small.items(), f"--previous={first}")
    written = (grown / "clusters" / "manifest.json").read_text()
    elsewhere = first.rename(shop / "elsewhere")
    try:
        run("again", small.items(), f"--previous={elsewhere}")
        assert (grown / "clusters" / "manifest.json").read_text() == written
    finally:
        elsewhere.rename(first)
    run("again", small.items())
    assert (
        "previous" not in json.loads((grown / "clusters" / "manifest.json").read_text())["inputs"]
    )
    assert not (grown / "clusters" / "mapping.parquet").exists()


@pytest.mark.parametrize(
    ("previous", "flags", "message"),
    [
        ("nowhere", (), "nowhere/clusters is not complete"),
        ("first", ("--clusters=3,5",), "--clusters=3,5: --previous="),
        ("refused", (), "is the workspace of this run"),
    ],
)
def test_an_earlier_run_that_cannot_be_used_is_one_line(
    first: Path, run: Run, shop: Path, capsys, previous: str, flags: tuple[str, ...], message: str
) -> None:
    run("refused", small.items(), f"--previous={shop / previous}", *flags, code=2)
    assert message in capsys.readouterr().err


def test_an_earlier_run_on_other_items_is_one_line(first: Path, run: Run, capsys) -> None:
    strangers = [{**row, "item_id": f"other {row['item_id']}"} for row in small.items()]
    run("strangers", strangers, f"--previous={first}", code=2)
    assert "knows none of the items" in capsys.readouterr().err
