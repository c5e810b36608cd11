"""Writes templates/: a Flex Template's metadata for each pipeline, and the schedule of them all.

`make templates` runs it. Everything comes from the pipelines' own flags; nothing is written twice.
"""

import json
import sys
import typing
from pathlib import Path
from typing import Any

import yaml

from pipelines.explore import STAGES
from pipelines.launch.flags import Flag
from pipelines.launch.stage import Stage

FOLDER = Path(__file__).parent
_NUMBERS = {int: r"[0-9]+", float: r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"}
_POLL_SECONDS = 60


def metadata(stage: Stage) -> dict[str, Any]:
    """Return a pipeline's TemplateMetadata as JSON; flags that only inspect are left out."""
    return {
        "name": f"interest-explorer {stage.name}",
        "description": stage.description,
        "parameters": [_parameter(flag) for flag in stage.flags if not flag.inspects],
    }


def _parameter(flag: Flag) -> dict[str, Any]:
    kind, pattern = _form(flag)
    parameter: dict[str, Any] = {
        "name": flag.name,
        "label": flag.name.replace("_", " ").capitalize(),
        "helpText": flag.help_text(),
        "isOptional": not flag.required,
        "paramType": kind,
    }
    if kind == "ENUM":
        parameter["enumOptions"] = [{"value": choice, "label": choice} for choice in flag.choices]
    if pattern:
        parameter["regexes"] = [f"^{pattern}$"]
    if (default := _text(False if flag.switch else flag.default)) is not None:
        parameter["defaultValue"] = default
    return parameter


def _form(flag: Flag) -> tuple[str, str]:
    """Return the type of a parameter and the pattern of its text, "" for any text."""
    if flag.choices:
        return "ENUM", ""
    if flag.switch:
        return "BOOLEAN", "(true|false)"
    if flag.form is not None:
        return flag.form
    parsed = flag.type if isinstance(flag.type, type) else _returns(flag.type)
    if parsed in _NUMBERS:
        return "NUMBER", _NUMBERS[parsed]
    return "TEXT", ""


def _returns(parse: Any) -> Any:
    return typing.get_type_hints(parse).get("return") if callable(parse) else str


def _text(default: Any) -> str | None:
    """Return a default as a command line has it; None where there is none."""
    if default is None or default == []:
        return None
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(map(str, default)) if isinstance(default, list) else str(default)


def workflow() -> dict[str, Any]:
    """Return a Cloud Workflows definition that launches all templates in order.

    Its argument names a project, a region, the folder of the templates' specs, parameters by the
    flags' names and the environment of all jobs (a FlexTemplateRuntimeEnvironment); by the
    pipelines' names, `parameters_of` and `workers` hold what one job has more of either. Each job
    gets the parameters that its template has.
    """
    return {
        "main": {
            "params": ["args"],
            "steps": [
                {
                    "name_run": {
                        "assign": [{"run": '${sys.get_env("GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID")}'}]
                    }
                },
                *({stage.name: _launch(stage)} for stage in STAGES),
            ],
        },
        "run_template": _run_template(),
        "wait": _wait(),
    }


def _launch(stage: Stage) -> dict[str, Any]:

    def merged(common: str, of_one: str) -> str:
        own = f'default(map.get(args, ["{of_one}", "{stage.name}"]), {{}})'
        return "${" + f'map.merge(default(map.get(args, "{common}"), {{}}), {own})' + "}"

    return {
        "call": "run_template",
        "args": {
            "project": "${args.project}",
            "region": "${args.region}",
            "job": "${" + f'"{stage.name.replace("_", "-")}-" + run' + "}",
            "spec": "${args.templates + " + f'"/{stage.name}.json"' + "}",
            "given": merged("parameters", "parameters_of"),
            "names": [parameter["name"] for parameter in metadata(stage)["parameters"]],
            "environment": merged("environment", "workers"),
        },
    }


def _run_template() -> dict[str, Any]:
    jobs = '"https://dataflow.googleapis.com/v1b3/projects/" + project + "/locations/" + region'
    taken = {"parameters[name]": "${string(given[name])}"}
    return {
        "params": ["project", "region", "job", "spec", "given", "names", "environment"],
        "steps": [
            {"begin": {"assign": [{"parameters": {}}]}},
            {
                "pick": {
                    "for": {
                        "value": "name",
                        "in": "${names}",
                        "steps": [
                            {
                                "if_given": {
                                    "switch": [
                                        {
                                            "condition": "${name in given}",
                                            "steps": [{"take": {"assign": [taken]}}],
                                        }
                                    ]
                                }
                            }
                        ],
                    }
                }
            },
            {
                "launch": {
                    "try": {
                        "call": "http.post",
                        "args": {
                            "url": "${" + jobs + ' + "/flexTemplates:launch"}',
                            "auth": {"type": "OAuth2"},
                            "body": {
                                "launchParameter": {
                                    "jobName": "${job}",
                                    "containerSpecGcsPath": "${spec}",
                                    "parameters": "${parameters}",
                                    "environment": "${environment}",
                                }
                            },
                        },
                        "result": "launched",
                    },
                    "retry": "${http.default_retry_non_idempotent}",
                }
            },
            {
                "end": {
                    "call": "wait",
                    "args": {
                        "url": "${" + jobs + ' + "/jobs/" + launched.body.job.id}',
                        "job": "${job}",
                    },
                }
            },
        ],
    }


def _wait() -> dict[str, Any]:
    """Poll a job until it ends; raise unless it is done."""
    ended = '["JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED", "JOB_STATE_DRAINED"]'
    failure = '${job + " ended as " + seen.body.currentState}'
    return {
        "params": ["url", "job"],
        "steps": [
            {"pause": {"call": "sys.sleep", "args": {"seconds": _POLL_SECONDS}}},
            {
                "look": {
                    "try": {
                        "call": "http.get",
                        "args": {"url": "${url}", "auth": {"type": "OAuth2"}},
                        "result": "seen",
                    },
                    "retry": "${http.default_retry}",
                }
            },
            {
                "decide": {
                    "switch": [
                        {
                            "condition": '${seen.body.currentState == "JOB_STATE_DONE"}',
                            "return": "${seen.body.id}",
                        },
                        {
                            "condition": "${seen.body.currentState in " + ended + "}",
                            "steps": [{"failed": {"raise": failure}}],
                        },
                    ],
                    "next": "pause",
                }
            },
        ],
    }


def contents() -> dict[str, str]:
    """Return name -> content of the files that are generated."""
    note = "# Written by `make templates` from the pipelines' flags.\n"
    specs = {
        f"{stage.name}.json": json.dumps(metadata(stage), indent=2, ensure_ascii=False) + "\n"
        for stage in STAGES
    }
    return specs | {"workflow.yaml": note + yaml.safe_dump(workflow(), sort_keys=False, width=1000)}


def main() -> int:
    """Write the files."""
    for name, content in contents().items():
        (FOLDER / name).write_text(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
