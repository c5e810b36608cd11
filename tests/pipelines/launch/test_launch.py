"""Every pipeline, really submitted to Dataflow, and done by workers that have what it staged."""

import io
import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulators.dataflow_server import Dataflow, dataflow_server
from emulators.fixtures import Storage
from emulators.servers import PROJECT, ROOT
from pipelines.launch.workspace import Workspace
from tests.pipelines.launch.launches import (
    FLAGS,
    GPU,
    REGION,
    Launch,
    arguments,
    launch,
    make_shop,
    read,
    run_as_main,
    upload,
)

PIPELINES = list(FLAGS)
IMAGE = "us-central1-docker.pkg.dev/test-proj/images/interest-explorer:1"


@pytest.fixture(scope="module")
def service() -> Iterator[Dataflow]:
    with dataflow_server() as service:
        yield service


@pytest.fixture(scope="module")
def shop(mined: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    make_shop(mined, folder)
    return folder


@pytest.fixture
def submit(shop: Path, storage: Storage, service: Dataflow) -> Callable[..., Launch]:
    return lambda pipeline, *flags: launch(shop, storage.bucket, service, pipeline, flags)


@pytest.fixture(scope="module")
def launched(shop: Path, storage: Storage, service: Dataflow) -> Callable[[str], Launch]:
    """Submit each pipeline once."""
    launches: dict[str, Launch] = {}

    def launched(pipeline: str) -> Launch:
        if pipeline not in launches:
            launches[pipeline] = launch(shop, storage.bucket, service, pipeline)
        return launches[pipeline]

    return launched


@pytest.fixture(scope="module")
def worker(launched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make what Dataflow makes of Beam's image: all that we depend on, and the staged wheel."""
    folder = tmp_path_factory.mktemp("worker")
    python = empty_environment(folder / "venv")
    name = wheel_name(launched("mine_transitions"))
    (folder / name).write_bytes(launched("mine_transitions").staged[name])
    command = ["pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([sys.executable, "-m", *command, folder / name], check=True)
    return python


def empty_environment(folder: Path) -> Path:
    """Make an environment with the third-party packages of this one, without the project."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    third_party = next(path for path in sys.path if path.endswith("site-packages"))
    # A folder that is named in a .pth file is searched; the .pth files in it, such as that of the
    # project's own editable installation, are not read.
    (packages / "third_party.pth").write_text(third_party)
    return folder / "bin/python"


def wheel_name(launch: Launch) -> str:
    [name] = (name for name in launch.staged if name.endswith(".whl"))
    return name


def work(python: Path, launch: Launch) -> None:
    """Run a staged pipeline, every bundle in a worker process as Dataflow starts one."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability import python_urns
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    entry = f"cd / && env --unset=PYTHONPATH {shlex.quote(str(python))} -m "
    entry += "apache_beam.runners.worker.sdk_worker_main"
    pipeline = type(launch.pipeline)()
    pipeline.CopyFrom(launch.pipeline)
    for environment in pipeline.components.environments.values():
        environment.urn, environment.payload = python_urns.SUBPROCESS_SDK, entry.encode()
        del environment.dependencies[:]  # they are installed
    FnApiRunner().run_via_runner_api(pipeline, PipelineOptions([])).wait_until_finish()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_is_submitted_where_the_flags_say(launched, pipeline: str) -> None:
    job = launched(pipeline).job
    assert (job["project"], job["region"]) == (PROJECT, REGION)
    assert job["name"].startswith(f"{pipeline.replace('_', '-')}-")


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_whole_project_is_staged_for_every_step(launched, pipeline: str) -> None:
    name = wheel_name(launched(pipeline))
    wheel = zipfile.ZipFile(io.BytesIO(launched(pipeline).staged[name]))
    ours = {path for path in wheel.namelist() if not path.split("/")[0].endswith(".dist-info")}
    assert ours == {
        str(path.relative_to(ROOT))
        for package in ("models", "pipelines", "transforms")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert launched(pipeline).staged["extra_packages.txt"].decode().split() == [name]
    environments = launched(pipeline).pipeline.components.environments.values()
    assert all(
        any(name.encode() in one.role_payload for one in environment.dependencies)
        for environment in environments
    )


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_machine_loads_a_model_once(launched, pipeline: str) -> None:
    experiments = launched(pipeline).job["environment"]["experiments"]
    loads_a_model = pipeline != "mine_transitions"
    assert ("no_use_multiple_sdk_containers" in experiments) == loads_a_model
    assert launched(pipeline).pool["diskSizeGb"] == (200 if loads_a_model else 50)


def test_one_machine_trains_the_language_model(launched) -> None:
    assert launched("finetune").pool["autoscalingSettings"]["maxNumWorkers"] == 1


@pytest.mark.parametrize(
    ("pipeline", "step"),
    [
        ("finetune", "Finetune/Train"),
        ("build_novelty_table", "BuildNoveltyTable/Decode"),
        ("train_retrieval", "TrainRetriever/Train"),
    ],
)
def test_gpus_are_for_the_steps_of_models_alone(launched, pipeline: str, step: str) -> None:
    launch = launched(pipeline)
    assert launch.hinted("accelerator") == launch.steps(step) != set()
    hints = {
        value
        for environment in launch.pipeline.components.environments.values()
        for value in environment.resource_hints.values()
    }
    assert GPU.encode() in hints


@pytest.mark.parametrize("pipeline", ["build_clusters", "mine_transitions", "recommend"])
def test_other_pipelines_ask_for_no_gpu(launched, pipeline: str) -> None:
    assert launched(pipeline).hinted("accelerator") == set()


def test_memory_is_asked_for_where_the_retriever_is_trained_alone(launched) -> None:
    launch = launched("train_retrieval")
    assert launch.hinted("min_ram_bytes") == launch.steps("TrainRetriever/Train") != set()


def test_flags_decide_over_the_defaults_and_an_image_has_the_project(submit) -> None:
    launch = submit(
        "finetune",
        f"--sdk_container_image={IMAGE}",
        "--machine_type=n2-standard-16",
        "--disk_size_gb=77",
        "--max_num_workers=3",
        f"--service_account_email=worker@{PROJECT}.iam.gserviceaccount.com",
        "--subnetwork=regions/us-central1/subnetworks/inner",
        "--no_use_public_ips",
        "--labels=team=shop",
        "--labels=pipeline=mine",
        "--job_name=weekly-finetune",
    )
    job, pool = launch.job, launch.pool
    assert job["name"] == "weekly-finetune"
    assert job["labels"]["team"] == "shop"
    assert job["labels"]["pipeline"] == "mine"
    assert job["environment"]["serviceAccountEmail"].startswith("worker@")
    assert (pool["machineType"], pool["diskSizeGb"]) == ("n2-standard-16", 77)
    assert pool["autoscalingSettings"]["maxNumWorkers"] == 3
    assert pool["subnetwork"] == "regions/us-central1/subnetworks/inner"
    assert pool["ipConfiguration"] == 2  # private
    assert {one["containerImage"] for one in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert not [name for name in launch.staged if name.endswith(".whl")]  # the image has it


def test_no_credential_is_staged(launched, storage: Storage) -> None:
    key = json.loads(Path(storage.environment["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    secret = key["private_key"].splitlines()[1]
    launch = launched("mine_transitions")
    everything = [json.dumps(launch.job).encode(), launch.pipeline.SerializeToString()]
    everything += launch.staged.values()
    assert not any(secret.encode() in content for content in everything)


def test_the_project_is_not_in_an_empty_environment(tmp_path: Path) -> None:
    python = empty_environment(tmp_path / "venv")
    script = (
        "import importlib.util as i\n"
        "print([i.find_spec(name) is not None for name in ('apache_beam', 'transforms')])"
    )
    said = subprocess.run([python, "-c", script], cwd="/", capture_output=True, text=True)
    assert said.stdout == "[True, False]\n", said.stderr


def test_a_worker_loads_every_step(worker: Path, launched, tmp_path: Path) -> None:
    for pipeline in PIPELINES:
        path = tmp_path / f"{pipeline}.pb"
        path.write_bytes(launched(pipeline).pipeline.SerializeToString())
    script = f"""
from pathlib import Path
from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.worker import sdk_worker_main

for name in {PIPELINES}:
    proto = beam_runner_api_pb2.Pipeline.FromString(Path(f"{{name}}.pb").read_bytes())
    try:
        Pipeline.from_runner_api(proto, "FnApiRunner", PipelineOptions([]))
    except Exception as error:
        raise RuntimeError(f"a worker can not load {{name}}") from error
"""
    done = subprocess.run([worker, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_workers_do_the_staged_job(worker: Path, launched) -> None:
    workspace = Workspace(f"gs://{launched('mine_transitions').bucket}/workspace")
    work(worker, launched("mine_transitions"))
    manifest = workspace.manifest("transitions")
    assert manifest["flags"]["seed"] == 1
    workspace.verify("transitions")
    assert manifest["rows"]["written"] > 0


def test_a_worker_that_lacks_a_module_fails(worker: Path, launched, tmp_path: Path) -> None:
    shutil.copytree(worker.parents[1], tmp_path / "venv", symlinks=True)
    [module] = (tmp_path / "venv").glob("lib/python*/site-packages/transforms/transitions/mine.py")
    module.unlink()
    with pytest.raises(RuntimeError, match=r"transforms\.transitions"):
        work(tmp_path / "venv/bin/python", launched("mine_transitions"))


def test_a_template_writes_the_job_that_dataflow_starts(
    shop: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.cloud import storage as gcs

    bucket = storage.bucket
    upload(shop, bucket)
    monkeypatch.setenv("PIPELINE", "finetune")
    monkeypatch.setenv("IMAGE", IMAGE)
    given = [flag for flag in arguments(bucket, "finetune") if "requirements" not in flag]
    code = run_as_main(
        ROOT / "templates/main.py",
        [
            *given,
            f"--template_location=gs://{bucket}/launches/job_object",
            f"--staging_location=gs://{bucket}/staging",
            "--job_name=finetune-1",
            '--labels={"goog-dataflow-provided-template-type": "flex"}',
        ],
    )
    assert code == 0
    job = json.loads(gcs.Client().bucket(bucket).blob("launches/job_object").download_as_bytes())
    launch = read(job)
    assert job["name"] == "finetune-1"
    assert job["labels"]["goog-dataflow-provided-template-type"] == "flex"
    assert job["labels"]["pipeline"] == "finetune"
    images = {one["containerImage"] for one in launch.pool["sdkHarnessContainerImages"]}
    assert images == {IMAGE}
    assert launch.hinted("accelerator") == launch.steps("Finetune/Train")
