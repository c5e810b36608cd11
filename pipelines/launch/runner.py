"""Chooses the runner of a pipeline and the folder of its temporary files."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from transforms.storage import files
from transforms.tables.shuffle import ShuffleOptions

# Runners whose workers share this machine's disk.
_LOCAL_RUNNERS = ("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", "PrismRunner")


def with_default_runner(beam_flags: list[str], threads: bool) -> list[str]:
    """Add the in-process runner to Beam's flags if they name none, with `threads` one per core."""
    named = {flag.split("=")[0] for flag in beam_flags}
    if "--runner" not in named:
        # Beam's default runner downloads Prism when it is online; this one is always the same.
        beam_flags = [*beam_flags, "--runner=FnApiRunner"]
        if threads and not named & {"--direct_num_workers", "--direct_running_mode"}:
            # One embedded worker per core. They run in parallel, which Beam's warning denies. Its
            # mode multi_threading would open gRPC servers on every network interface.
            beam_flags = [*beam_flags, "--direct_num_workers=0"]
    return beam_flags


@contextlib.contextmanager
def running_pipeline(options: PipelineOptions, temporary: str) -> Iterator[beam.Pipeline]:
    """Run a pipeline that leaves its temporary files in a folder.

    The next run deletes the folder, if this one is killed. For a workspace that is not on this
    machine the folder is one of the system.
    """
    if not files.is_local(temporary):
        temporary = tempfile.mkdtemp(prefix="interest-explorer-")
    files.delete_folder(temporary)
    os.makedirs(temporary)
    shuffle = options.view_as(ShuffleOptions)
    if options.view_as(StandardOptions).runner in _LOCAL_RUNNERS and not shuffle.shuffle_folder:
        shuffle.shuffle_folder = os.path.join(temporary, "shuffle")
    tempfile.tempdir, before = temporary, tempfile.tempdir
    try:
        pipeline = beam.Pipeline(options=options)
    finally:
        tempfile.tempdir = before
    try:
        with pipeline:
            yield pipeline
    finally:
        files.delete_folder(temporary)
