"""A stage's rows in BigQuery: all at once, and once."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import pyarrow as pa
import pytest

from emulators.fixtures import Cloud
from emulators.storm import watched
from emulators.tables import load, rows
from tests.transforms.eager import run
from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import bigquery_client, cloud_storage, files
from transforms.storage.bigquery_client import TableName
from transforms.storage.manifest import RowCounts, StagePlan, write_manifest
from transforms.tables import load_bigquery
from transforms.tables.load_bigquery import LoadTable, Version, can_load, check_target

OLD = [("ann", 1, ["x", "y"], [0.5, 0.25]), ("bob", 2, [], [])]
NEW = [("ann", 3, ["z"], [1.0]), ("cleo", 0, ["x"], [0.125]), ("dan", 1, ["y"], [0.5])]


def table_of(users: list[tuple]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "user_id": user,
                "novel_cluster": cluster,
                "c1": 4,
                "c2": 5,
                "probability": 0.75,
                "item_ids": items,
                "scores": scores,
                "propensity": 1.0,
            }
            for user, cluster, items, scores in users
        ],
        schema=col.RECOMMENDATIONS,
    )


def write_stage(folder: str, users: list[tuple]) -> None:
    """Write a complete stage in two files."""
    table = table_of(users)
    records = [
        files.write_parquet(folder, f"part-{number}.parquet", part)
        for number, part in enumerate((table.slice(0, 1), table.slice(1)))
    ]
    counts = RowCounts(written=len(users), files=tuple(records))
    write_manifest(folder, StagePlan("recommend", {}, {}, None, 1), {}, 0.0, counts)


@pytest.fixture(params=["local", "remote"])
def folder(request, cloud: Cloud, tmp_path: Path) -> str:
    where = str(tmp_path) if request.param == "local" else f"gs://{cloud.bucket}/w"
    return files.join(where, "recommendations")


@pytest.fixture
def target(cloud: Cloud) -> TableName:
    return TableName.parse(f"{cloud.dataset}.recs", "output_table")


def loader(folder: str, target: TableName) -> LoadTable:
    return LoadTable("recommend", folder, col.RECOMMENDATIONS, target)


def put(folder: str, target: TableName) -> int:
    done = loader(folder, target)
    (count,) = run(lambda pipeline: {"rows": pipeline | beam.Create([None]) | done})["rows"]
    return count


def users(table: object) -> list[str]:
    return sorted(rows(str(table))["user_id"].to_pylist())


@pytest.fixture
def jobs(monkeypatch) -> Iterator[list[str]]:
    """Return the load and copy jobs that are started."""
    from google.cloud.bigquery import Client

    started: list[str] = []
    for kind in ("load_table_from_uri", "load_table_from_file", "copy_table"):
        method = getattr(Client, kind)

        def start(*given, _method=method, _kind=kind, **named):
            started.append(_kind.split("_")[0])
            return _method(*given, **named)

        monkeypatch.setattr(Client, kind, start)
    return started


def test_the_table_has_the_rows_with_lists_as_repeated_columns(folder: str, target) -> None:
    write_stage(folder, OLD)
    assert put(folder, target) == 2
    assert rows(str(target)).sort_by("user_id").to_pylist() == table_of(OLD).to_pylist()
    modes = {
        field.name: field.mode for field in bigquery_client.client().get_table(str(target)).schema
    }
    assert modes == {
        **dict.fromkeys(("user_id", "novel_cluster", "c1", "c2"), "NULLABLE"),
        **dict.fromkeys(("probability", "propensity"), "NULLABLE"),
        **dict.fromkeys(("item_ids", "scores"), "REPEATED"),
    }


def test_jobs_are_of_the_project_that_is_given(folder: str, target, monkeypatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    write_stage(folder, OLD)
    with watched("BIGQUERY_EMULATOR_HOST", "/jobs") as jobs:
        check_target(target, folder, "recommend", "other-proj")
        assert LoadTable("recommend", folder, col.RECOMMENDATIONS, target, "other-proj")._load()
    assert len(jobs) >= 2
    assert all("/projects/other-proj/" in path for path in jobs)


def test_a_table_without_rows_is_a_table(folder: str, target) -> None:
    write_stage(folder, [])
    assert put(folder, target) == 0
    assert users(target) == []


def test_another_version_takes_its_place_and_the_one_before_stays(folder: str, target) -> None:
    write_stage(folder, OLD)
    before = Version.of(folder)
    put(folder, target)
    write_stage(folder, NEW)
    put(folder, target)
    assert users(target) == ["ann", "cleo", "dan"]
    assert users(before.table(target)) == ["ann", "bob"]


def test_a_rollback_is_a_copy_of_an_older_version(folder: str, target, caplog) -> None:
    write_stage(folder, OLD)
    before = Version.of(folder)
    put(folder, target)
    write_stage(folder, NEW)
    caplog.set_level("INFO", "interest-explorer")
    put(folder, target)
    (said,) = [line for line in caplog.messages if "roll back" in line]
    older, name = said.split("bq cp --force ")[1].replace(":", ".").split()
    assert (older, name) == (str(before.table(target)), str(target))
    bigquery_client.client().copy_table(older, name, job_config=_truncate()).result()
    assert users(target) == ["ann", "bob"]
    check_target(target, folder, "recommend")  # it is still ours
    put(folder, target)


def _truncate():
    from google.cloud.bigquery import CopyJobConfig

    return CopyJobConfig(write_disposition="WRITE_TRUNCATE")


def test_what_is_loaded_is_not_loaded_again(folder: str, target, jobs: list[str]) -> None:
    write_stage(folder, OLD)
    assert not loader(folder, target).is_done()
    put(folder, target)
    assert loader(folder, target).is_done()
    assert jobs == ["load", "copy"]
    put(folder, target)
    assert jobs == ["load", "copy"]


STEPS = ["load_jobs", "label 1", "copy", "label 2"]


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_moment_it_ends_with_the_same_table(
    folder: str, target, monkeypatch, step: str
) -> None:
    write_stage(folder, OLD)
    put(folder, target)
    write_stage(folder, NEW)
    calls: list[int] = []

    def die(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        label = LoadTable._label

        def label_or_die(self: LoadTable, *given) -> None:
            calls.append(1)
            if len(calls) == int(step[-1]):
                die()
            label(self, *given)

        if step == "load_jobs":
            patch.setattr(LoadTable, "_load_jobs", die)
        elif step == "copy":
            patch.setattr("google.cloud.bigquery.Client.copy_table", die)
        else:
            patch.setattr(LoadTable, "_label", label_or_die)
        with pytest.raises(RuntimeError, match="killed"):
            loader(folder, target)._load()
    # A reader saw one version or the other.
    assert users(target) == (["ann", "cleo", "dan"] if step == "label 2" else ["ann", "bob"])
    check_target(target, folder, "recommend")
    put(folder, target)
    assert rows(str(target)).sort_by("user_id").to_pylist() == table_of(NEW).to_pylist()
    assert users(Version.of(folder).table(target)) == ["ann", "cleo", "dan"]


def test_rows_that_are_missing_are_not_put_in_place(folder: str, target) -> None:
    write_stage(folder, OLD)
    put(folder, target)
    write_stage(folder, NEW)
    manifest = json.loads(files.read_bytes(files.join(folder, "manifest.json")))
    manifest["rows"]["written"] = 4
    files.write_bytes(files.join(folder, "manifest.json"), json.dumps(manifest).encode())
    with pytest.raises(ValueError, match="has 3 rows after 4 were loaded"):
        loader(folder, target)._load()
    assert users(target) == ["ann", "bob"]


def test_more_files_than_a_job_takes(cloud: Cloud, target, monkeypatch, jobs) -> None:
    folder = f"gs://{cloud.bucket}/w"
    write_stage(folder, NEW)
    monkeypatch.setattr(load_bigquery, "_FILES_PER_JOB", 1)
    put(folder, target)
    assert jobs == ["load", "load", "copy"]
    assert users(target) == ["ann", "cleo", "dan"]


def test_tables_say_where_they_come_from(folder: str, target) -> None:
    write_stage(folder, OLD)
    put(folder, target)
    version = Version.of(folder)
    for name in (target, version.table(target)):
        table = bigquery_client.client().get_table(str(name))
        assert table.labels == {"interest-explorer": "recommend", "version": version.digest}
        assert folder in table.description


def test_the_same_content_elsewhere_is_the_same_version(cloud: Cloud, tmp_path: Path) -> None:
    for folder in (str(tmp_path), f"gs://{cloud.bucket}/w"):
        write_stage(folder, OLD)
    assert Version.of(str(tmp_path)).digest == Version.of(folder).digest
    write_stage(folder, NEW)
    assert Version.of(str(tmp_path)).digest != Version.of(folder).digest


def test_a_table_that_is_not_ours_is_left_alone(cloud: Cloud, target) -> None:
    load(str(target), pa.table({"precious": pa.array([1], pa.int64())}))
    with pytest.raises(InputError, match=f"--output_table={target} exists and was not written"):
        check_target(target, "/somewhere", "recommend")


def test_a_table_of_another_pipeline_is_left_alone(folder: str, target) -> None:
    write_stage(folder, OLD)
    put(folder, target)
    with pytest.raises(InputError, match="exists and was not written by this pipeline"):
        check_target(target, folder, "build_novelty_table")


def test_a_dataset_that_is_not_there_is_named(cloud: Cloud) -> None:
    with pytest.raises(InputError, match=r"--output_table=test-proj\.nowhere\.recs: Not found"):
        check_target(TableName("test-proj", "nowhere", "recs"), "/somewhere", "recommend")


@pytest.mark.parametrize(
    ("dataset", "bucket", "can"),
    [
        ("US", "EUROPE-WEST1", True),  # which loads from anywhere
        ("EU", "EUROPE-WEST1", True),
        ("EU", "US-EAST1", False),
        ("europe-west1", "EUROPE-WEST1", True),
        ("europe-west1", "EUROPE-WEST4", False),
        ("europe-west1", "EUR4", True),  # perhaps
    ],
)
def test_a_dataset_loads_from_near_buckets(dataset: str, bucket: str, can: bool) -> None:
    assert can_load(dataset, bucket) == can


def test_a_bucket_too_far_away_is_named(cloud: Cloud, monkeypatch) -> None:
    # The emulator has all its buckets in one place.
    there = SimpleNamespace(location="US-EAST1")
    monkeypatch.setattr(cloud_storage, "bucket_of", lambda path: there)
    dataset = _dataset_in(cloud.dataset + "_eu", "EU")
    with pytest.raises(InputError, match="is in EU, which can't load from the bucket of"):
        check_target(TableName("test-proj", dataset, "recs"), "gs://shop/w", "recommend")


def _dataset_in(name: str, location: str) -> str:
    from google.cloud.bigquery import Dataset

    dataset = Dataset(name)
    dataset.location = location
    return bigquery_client.client().create_dataset(dataset).dataset_id
