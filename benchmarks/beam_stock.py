"""Beam's own handler for vLLM in a pipeline. Imported in its process only: it imports vLLM."""

import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.ml.inference.base import PredictionResult, RunInference
from apache_beam.ml.inference.vllm_inference import VLLMCompletionsModelHandler
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.task import Answer, Task


class TimedHandler(VLLMCompletionsModelHandler):
    """The handler as it is, but that each batch says when it began and ended."""

    def run_inference(
        self, batch: Sequence[str], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        begun = time.monotonic()
        results = list(super().run_inference(batch, model, inference_args))
        ended = time.monotonic()
        return [
            PredictionResult(
                result.example,
                {"text": result.inference.choices[0].text, "begun": begun, "ended": ended},
            )
            for result in results
        ]


class BeamStock:
    """`RunInference` over the prompts.

    The handler hands the same arguments to every request, so the choice is of all descriptions,
    those of c1 and c2 too. That is in its favour: vLLM makes one grammar instead of one a pair.

    Parameters
    ----------
    task
    server_args
        `vllm_server_kwargs` of the handler.
    """

    def __init__(self, task: Task, server_args: dict[str, str]) -> None:
        self._task, self._server_args = task, server_args

    def answer(self, parts: list[list[int]]) -> list[Answer]:
        """Answer all pairs of some rows, part by part.

        One pipeline over all parts, as a restart would be a new server. The clock runs from the
        first batch, when the server is up, to the last; a part that ends within a batch ends
        where the batch's share of prompts is through.
        """
        task = self._task
        pairs = [task.pairs(rows) for rows in parts]
        prompts = [task.prompts.render(*pair) for part in pairs for pair in part]
        inference_args = {
            "max_tokens": task.max_tokens,  # the default of 16 cuts descriptions
            "temperature": 0.0,
            "extra_body": {"structured_outputs": {"choice": list(task.prompts.descriptions)}},
        }
        with tempfile.TemporaryDirectory() as folder:
            with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
                _ = (
                    pipeline
                    | beam.Create(prompts, reshuffle=False)  # keeps the order: by c1
                    | RunInference(
                        TimedHandler(task.model, self._server_args), inference_args=inference_args
                    )
                    | beam.Map(
                        lambda result: json.dumps({"prompt": result.example, **result.inference})
                    )
                    | beam.io.WriteToText(str(Path(folder, "answers")))
                )
            results = [
                json.loads(line)
                for file in Path(folder).iterdir()
                for line in file.read_text().splitlines()
            ]
        texts = {result["prompt"]: result["text"] for result in results}
        begun = min(result["begun"] for result in results)
        ended = np.sort([result["ended"] for result in results])  # [prompts]
        # The clock after so many prompts: known where a batch ends.
        through, batch = np.unique(ended, return_counts=True)  # [batches]
        edges = np.cumsum([0, *map(len, pairs)])  # [parts + 1]
        clock = np.interp(edges, [0, *np.cumsum(batch)], [begun, *through])
        return [
            Answer(task.clusters([texts[task.prompts.render(*pair)] for pair in part]), seconds)
            for part, seconds in zip(pairs, np.diff(clock).tolist(), strict=True)
        ]
