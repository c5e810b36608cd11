"""Chooses the runner of a pipeline and the folder of its temporary files."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from models.common.model_process import end_model_processes
from transforms.errors import InputError
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
    """Run a pipeline whose temporary files, and those of its processes, are gone afterwards.

    The next run deletes them, if this one is killed. Those of the shuffle are in `temporary` if
    that is local; the others are in a private folder of the system, where sockets have short paths.
    """
    private = _private_folder(temporary)
    large = private
    if files.is_local(temporary):
        large = temporary
        shutil.rmtree(large, ignore_errors=True)  # of a killed run
    shuffle = options.view_as(ShuffleOptions)
    if options.view_as(StandardOptions).runner in _LOCAL_RUNNERS and not shuffle.shuffle_folder:
        shuffle.shuffle_folder = os.path.join(large, "shuffle")
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = private
    try:
        with beam.Pipeline(options=options) as pipeline:
            yield pipeline
    finally:
        end_model_processes()  # of workers in this process: Beam keeps their last model
        tempfile.tempdir = before[0]
        os.environ.pop("TMPDIR")
        if before[1] is not None:
            os.environ["TMPDIR"] = before[1]
        for folder in (private, large):
            shutil.rmtree(folder, ignore_errors=True)


def _private_folder(name: str) -> str:
    """Return a new folder of the system's temporary folder, always the same one for a name.

    Raises InputError if it is another user's.
    """
    name = os.path.abspath(name) if files.is_local(name) else name
    digest = hashlib.sha256(f"{os.geteuid()} {name}".encode()).hexdigest()[:16]
    path = os.path.join(tempfile.gettempdir(), f"interest-explorer-{digest}")
    if os.path.lexists(path):
        if os.lstat(path).st_uid != os.geteuid():
            raise InputError(f"{path} belongs to another user; set TMPDIR to a folder of your own")
        shutil.rmtree(path)
    os.mkdir(path, 0o700)
    return path
