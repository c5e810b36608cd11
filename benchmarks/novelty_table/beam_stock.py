"""Beam's own handler for vLLM in a pipeline. It imports vLLM: import it in its process only."""

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

from benchmarks.novelty_table.task import Answer, Task


class TimedHandler(VLLMCompletionsModelHandler):
    """The handler, unchanged, with the start and end time of each batch in its results."""

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

    The handler passes the same arguments to every request, so the choice has all descriptions,
    also those of c1 and c2. This favours it: vLLM makes one grammar instead of one per pair.
    `server_args` are `vllm_server_kwargs` of the handler.
    """

    def __init__(self, task: Task, server_args: dict[str, str]) -> None:
        self._task, self._server_args = task, server_args

    def answer(self, parts: list[list[int]]) -> list[Answer]:
        """Answer all pairs of some rows, part by part.

        One pipeline reads all parts, because a restart would start a new server. The clock runs
        from the first batch, when the server is up, to the last. A part that ends within a batch
        ends at its share of the batch's prompts.
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
                    | beam.Create(prompts, reshuffle=False)  # keeps the order by c1
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
        # The clock after each prompt: known at the end of a batch.
        through, batch = np.unique(ended, return_counts=True)  # [batches]
        edges = np.cumsum([0, *map(len, pairs)])  # [parts + 1]
        clock = np.interp(edges, [0, *np.cumsum(batch)], [begun, *through])
        return [
            Answer(task.clusters([texts[task.prompts.render(*pair)] for pair in part]), seconds)
            for part, seconds in zip(pairs, np.diff(clock).tolist(), strict=True)
        ]
