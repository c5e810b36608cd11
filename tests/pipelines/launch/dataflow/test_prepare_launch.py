"""What is checked before a launch on Dataflow, and what a launch gets where flags say nothing."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from emulators.fixtures import Storage
from emulators.servers import PROJECT
from pipelines import explore, finetune
from pipelines.launch.dataflow.prepare_launch import in_region, prepare_launch
from pipelines.launch.dataflow.worker_machines import hints
from tests.pipelines.launch.shout import ECHO
from transforms.errors import InputError

BASE = {
    "runner": "DataflowRunner",
    "project": PROJECT,
    "region": "us-central1",
    "temp_location": "gs://some-bucket/temp",
    "sdk_container_image": "repository/image:1",
}


def options(**changes: str | None) -> PipelineOptions:
    flags = {name: value for name, value in (BASE | changes).items() if value is not None}
    return PipelineOptions([f"--{name}={value}" for name, value in flags.items()])


def flags(**changes: str) -> argparse.Namespace:
    return argparse.Namespace(**{"workspace": "gs://some-bucket/workspace"} | changes)


def launched(pipeline: str, given: argparse.Namespace, launch: PipelineOptions) -> None:
    workers = next(stage.workers for stage in explore.STAGES if stage.name == pipeline)
    prepare_launch(pipeline, workers, explore.FLAGS, given, launch)


@pytest.fixture
def refused() -> Callable[..., str]:
    def refused(launch: PipelineOptions, given: argparse.Namespace | None = None) -> str:
        with pytest.raises(InputError) as error:
            launched("finetune", given or flags(), launch)
        assert "\n" not in str(error.value)
        return str(error.value)

    return refused


def test_other_runners_are_left_alone() -> None:
    launch = PipelineOptions(["--runner=FnApiRunner"])
    before = launch.get_all_options()
    launched("finetune", flags(workspace="build/demo"), launch)
    assert launch.get_all_options() == before


@pytest.mark.parametrize("name", ["project", "region", "temp_location"])
def test_what_is_missing_is_named(refused, name: str) -> None:
    assert refused(options(**{name: None})).startswith(f"--{name} is missing")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("project", "Test"),
        ("project", "test-proj; drop"),
        ("region", "us-central1-a"),
        ("region", "here"),
        ("temp_location", "/tmp/temp"),
        ("staging_location", "staging"),
        ("temp_location", "gs://B/temp"),
    ],
)
def test_a_malformed_value_is_named(refused, name: str, value: str) -> None:
    assert refused(options(**{name: value})).startswith(f"--{name}={value} is ")


def test_a_local_workspace_is_refused(refused) -> None:
    message = refused(options(), flags(workspace="build/demo"))
    assert message.startswith("--workspace=build/demo is not in Cloud Storage")


@pytest.mark.parametrize("name", ["interactions", "items"])
@pytest.mark.parametrize("pattern", ["log.parquet", "*.parquet"])
def test_a_local_input_is_refused(refused, tmp_path: Path, name: str, pattern: str) -> None:
    (tmp_path / "log.parquet").touch()
    value = f"{tmp_path}/{pattern}"
    assert refused(options(), flags(**{name: value})).startswith(f"--{name}={value} is on this")


def test_a_local_table_is_refused(refused, tmp_path: Path) -> None:
    given = argparse.Namespace(
        **vars(flags()), compare_table=["one=gs://some-bucket/one", f"other={tmp_path}"]
    )
    assert refused(options(), given).startswith(f"--compare_table={tmp_path} is on this machine")


def test_a_local_model_is_refused(refused, tmp_path: Path) -> None:
    message = refused(options(sdk_container_image=None), flags(base_model=str(tmp_path)))
    assert message.startswith(f"--base_model={tmp_path} is on this machine")


def test_a_local_model_of_an_earlier_stage_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.launch.stage.prepare_launch", lambda *_: None)
    stage = replace(
        ECHO,
        stages=(),
        taken_over=lambda _: {"base_model": str(tmp_path)},
        taken_over_paths=finetune.STAGE.taken_over_paths,
    )
    assert stage.main([f"--workspace={tmp_path / 'w'}", "--runner=DataflowRunner"]) == 2
    assert f"--base_model={tmp_path} is on this machine" in capsys.readouterr().err


def test_an_image_may_hold_a_local_model(storage: Storage, tmp_path: Path) -> None:
    temp = f"gs://{storage.bucket}/temp"
    given = flags(workspace=temp, base_model=str(tmp_path))
    launched("finetune", given, options(temp_location=temp))


def test_models_need_an_image_or_requirements(refused) -> None:
    message = refused(options(sdk_container_image=None))
    assert message.startswith("workers of finetune would lack the packages of its models")


def test_an_l4_needs_its_machine(refused) -> None:
    gpu = flags(accelerator="type:nvidia-l4;count:1;install-nvidia-driver")
    assert "an L4 is part of a g2 machine" in refused(options(), gpu)


@pytest.mark.parametrize(
    "hint",
    [
        "type:nvidia-tesla-t4;count:1;install-nvidia-driver",
        "type:nvidia-tesla-t4;count:2;install-nvidia-driver:5xx",
        "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver",
        "",
    ],
)
def test_an_accelerator_is_taken(hint: str) -> None:
    parsed = finetune.STAGE.parser().parse_args(["--workspace=w", f"--accelerator={hint}"])
    assert hints(parsed) == ({"accelerator": hint} if hint else {})


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("accelerator", "nvidia-l4"),
        ("accelerator", "type:nvidia-l4,count:1"),
        ("accelerator", "type:nvidia-l4;count:0"),
        ("accelerator", "type:nvidia-l4;count:1;driver"),
        ("min_ram", "lots"),
        ("min_ram", "32"),
    ],
)
def test_a_malformed_hint_is_refused(flag: str, value: str, capsys) -> None:
    with pytest.raises(SystemExit):
        finetune.STAGE.parser().parse_args(["--workspace=w", f"--{flag}={value}"])
    assert f"{value!r} is not of the form" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("location", "parts", "region", "inside"),
    [
        ("US-CENTRAL1", [], "us-central1", True),
        ("US-CENTRAL1", [], "us-east1", False),
        ("US", [], "us-east1", True),
        ("US", [], "europe-west1", False),
        ("EU", [], "europe-west1", True),
        ("ASIA", [], "asia-east1", True),
        ("NAM4", [], "us-central1", True),
        ("NAM4", [], "us-west1", False),
        ("US", ["US-EAST1", "US-WEST1"], "us-east1", True),
        ("US", ["US-EAST1", "US-WEST1"], "us-central1", False),
    ],
)
def test_a_location_holds_regions(
    location: str, parts: list[str], region: str, inside: bool
) -> None:
    assert in_region(location, parts, region) == inside


def test_a_missing_bucket_is_named(storage: Storage, refused) -> None:
    bucket = storage.bucket
    message = refused(options(), flags(workspace=f"gs://{bucket}/w"))
    assert message.startswith("--temp_location: there is no bucket gs://some-bucket; make it with")


def test_a_bucket_elsewhere_is_named(storage: Storage, refused) -> None:
    temp = f"gs://{storage.bucket}/temp"  # in US, as the emulator says of all
    message = refused(options(region="europe-west1", temp_location=temp), flags(workspace=temp))
    assert (
        f"the bucket {temp.removesuffix('/temp')} is in US, the job in --region=europe-w" in message
    )


def test_all_jobs_of_a_workspace_have_a_label_in_common(storage: Storage) -> None:
    temp = f"gs://{storage.bucket}/temp"
    labels = []
    for pipeline in ("mine_transitions", "finetune"):
        launch = options(temp_location=temp)
        launched(pipeline, flags(workspace=f"{temp}/w"), launch)
        labels.append(dict(one.split("=") for one in launch.view_as(GoogleCloudOptions).labels))
    assert [one["pipeline"] for one in labels] == ["mine-transitions", "finetune"]
    assert labels[0]["workspace"] == labels[1]["workspace"]
