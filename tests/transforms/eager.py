"""Tiny pipelines on the in-process runner that return what comes out of them."""

from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

_FOUND: dict[str, list[Any]] = {}  # the runner's workers are threads of this process


def _keep(element: Any, name: str) -> None:
    _FOUND[name].append(element)


def run(
    build: Callable[[beam.Pipeline], dict[str, beam.PCollection]], *flags: str
) -> dict[str, list[Any]]:
    """Run what a function adds to a pipeline; the elements of each output it names, unordered."""
    _FOUND.clear()
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([*flags])) as pipeline:
        for name, elements in build(pipeline).items():
            _FOUND[name] = []
            elements | f"Keep-{name}" >> beam.Map(_keep, name)
    return dict(_FOUND)
