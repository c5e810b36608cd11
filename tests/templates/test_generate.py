"""The templates say what the pipelines' flags are."""

import json
import re
from typing import Any

import pytest
import yaml

from pipelines.explore import STAGES
from pipelines.launch.stage import Stage
from pipelines.launch.template_arguments import arguments
from templates import generate
from templates.generate import FOLDER

NAMES = [stage.name for stage in STAGES]
BY_NAME = {stage.name: stage for stage in STAGES}
every_stage = pytest.mark.parametrize("stage", STAGES, ids=NAMES)


def parameters(stage: Stage) -> dict[str, dict[str, Any]]:
    """Return the parameters of the file that is there."""
    file = json.loads((FOLDER / f"{stage.name}.json").read_text())
    return {parameter["name"]: parameter for parameter in file["parameters"]}


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "workflow.yaml").read_text())


@pytest.fixture(scope="module")
def launches(workflow: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of each launch, in order."""
    return {
        name: step["args"]
        for one in workflow["main"]["steps"]
        for name, step in one.items()
        if step.get("call") == "run_template"
    }


def test_the_files_are_what_the_flags_make_of_them() -> None:
    written = {
        path.name: path.read_text()
        for path in FOLDER.iterdir()
        if path.suffix in (".json", ".yaml")
    }
    assert written == generate.contents(), "run `make templates`"


@every_stage
def test_dataflow_takes_the_metadata(stage: Stage) -> None:
    from google.cloud.dataflow_v1beta3 import ContainerSpec

    spec = {
        "image": "repository/image:1",
        "sdkInfo": {"language": "PYTHON"},
        "metadata": json.loads((FOLDER / f"{stage.name}.json").read_text()),
    }
    parsed = ContainerSpec.from_json(json.dumps(spec))
    assert [one.name for one in parsed.metadata.parameters] == list(parameters(stage))


@every_stage
def test_a_parameter_says_what_it_is(stage: Stage) -> None:
    for parameter in parameters(stage).values():
        assert all(parameter[key].strip() for key in ("name", "label", "helpText", "paramType"))
        assert "%%" not in parameter["helpText"]


@every_stage
def test_all_flags_but_reports_are_parameters(stage: Stage) -> None:
    flags = {flag.name for flag in stage.flags}
    assert flags - set(parameters(stage)) <= {"status", "estimate"}


@every_stage
def test_what_a_flag_requires_is_required(stage: Stage) -> None:
    required = {flag.name for flag in stage.flags if flag.required}
    assert required == {
        name for name, parameter in parameters(stage).items() if not parameter["isOptional"]
    }


@every_stage
def test_patterns_are_anchored_and_take_the_default(stage: Stage) -> None:
    for parameter in parameters(stage).values():
        for pattern in parameter.get("regexes", []):
            assert pattern.startswith("^")
            assert pattern.endswith("$")
            assert re.search(pattern, parameter.get("defaultValue", "")) or (
                "defaultValue" not in parameter
            )


@every_stage
def test_a_default_that_is_given_is_the_default(stage: Stage) -> None:
    required = [f"--{name}=x" for name, one in parameters(stage).items() if not one["isOptional"]]
    given = [
        f"--{name}={one['defaultValue']}"
        for name, one in parameters(stage).items()
        if "defaultValue" in one
    ]
    parser = stage.parser()
    assert parser.parse_args(arguments(stage, required + given)) == parser.parse_args(required)


@pytest.mark.parametrize(
    ("stage", "name", "good", "bad"),
    [
        ("build_clusters", "workspace", "gs://bucket/a/b", "gs://bucket; rm -rf /"),
        ("build_clusters", "workspace", "gs://bucket", "/tmp/work"),
        ("build_clusters", "clusters", "8,16,32", "8 16"),
        ("mine_transitions", "level", "3", "-1"),
        ("build_clusters", "min_rating", "-0.5", "four"),
        ("finetune", "finetune_learning_rate", "1e-5", "small"),
        ("recommend", "interactions", "gs://bucket/log/*.parquet", "log/*.parquet"),
        ("recommend", "interactions", "bq://my-project.shop.log", "my-project.shop.log"),
        ("recommend", "interactions", "select *\nfrom `shop.log`", "drop table x"),
        ("recommend", "since", "2026-01-31T12:00:00Z", "yesterday"),
        ("recommend", "output_table", "my-project.shop.new", "shop.new; DROP TABLE x"),
        ("finetune", "min_ram", "32GB", "lots"),
        ("finetune", "accelerator", "type:nvidia-tesla-t4;count:1", "nvidia-tesla-t4"),
        ("build_novelty_table", "discard_partial", "true", "yes"),
        ("build_novelty_table", "engine_args", '{"dtype": "auto"}', "dtype=auto"),
    ],
)
def test_a_pattern_tells_values_apart(stage: str, name: str, good: str, bad: str) -> None:
    [pattern] = parameters(BY_NAME[stage])[name]["regexes"]
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (["--discard_partial=true"], ["--discard_partial"]),
        (["--discard_partial=false"], []),
        (["--clusters_per_pair=5", "--x=a=b"], ["--clusters_per_pair=5", "--x=a=b"]),
        (["--no_use_public_ips"], ["--no_use_public_ips"]),
    ],
)
def test_a_flag_without_a_value_is_switched(given: list[str], taken: list[str]) -> None:
    assert arguments(BY_NAME["build_novelty_table"], given) == taken


def test_the_schedule_launches_the_pipelines_in_order(launches) -> None:
    assert list(launches) == NAMES


@every_stage
def test_the_schedule_names_the_parameters_of_a_template(launches, stage: Stage) -> None:
    assert launches[stage.name]["names"] == list(parameters(stage))
    assert f'"/{stage.name}.json"' in launches[stage.name]["spec"]


@every_stage
def test_a_job_of_the_schedule_has_parameters_of_its_own(launches, stage: Stage) -> None:
    assert launches[stage.name]["given"] == (
        '${map.merge(default(map.get(args, "parameters"), {}), '
        f'default(map.get(args, ["parameters_of", "{stage.name}"]), {{}}))}}'
    )


def test_the_schedule_goes_on_only_after_a_job_is_done(workflow) -> None:
    last = workflow["run_template"]["steps"][-1]["end"]
    assert last["call"] == "wait"
    [decide] = (step["decide"] for step in workflow["wait"]["steps"] if "decide" in step)
    done, ended = decide["switch"]
    assert "JOB_STATE_DONE" in done["condition"]
    assert "return" in done
    assert all(f"JOB_STATE_{state}" in ended["condition"] for state in ("FAILED", "CANCELLED"))
    assert "raise" in ended["steps"][0]["failed"]
    assert decide["next"] in {name for step in workflow["wait"]["steps"] for name in step}


def test_calls_of_the_schedule_have_the_arguments_that_they_name(workflow) -> None:
    for calls in walk(workflow):
        if calls["call"] in workflow:
            assert list(calls["args"]) == workflow[calls["call"]]["params"]


def walk(node: Any) -> list[dict[str, Any]]:
    """Return all calls below a node."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    found = [call for child in children for call in walk(child)]
    return [node, *found] if isinstance(node, dict) and "call" in node else found
