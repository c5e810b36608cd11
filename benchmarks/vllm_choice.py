"""vLLM in process, each prompt with the choice of the descriptions allowed for its pair."""

import time

from benchmarks.task import Answer, Task


class VllmChoice:
    """`vllm.LLM.generate` with structured outputs, and the engine settings of ours.

    Parameters
    ----------
    task
    """

    def __init__(self, task: Task) -> None:
        from vllm import LLM

        self._task = task
        self._llm = LLM(
            task.model,
            seed=0,
            block_size=32,
            enforce_eager=True,
            enable_prefix_caching=True,
            disable_log_stats=True,
        )

    def answer(self, parts: list[list[int]]) -> list[Answer]:
        """Answer all pairs of some rows, part by part."""
        return [self._part(rows) for rows in parts]

    def _part(self, rows: list[int]) -> Answer:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        task, begun = self._task, time.monotonic()
        pairs = task.pairs(rows)
        outputs = self._llm.generate(
            [task.prompts.render(*pair) for pair in pairs],
            [
                SamplingParams(
                    temperature=0.0,
                    max_tokens=task.max_tokens,
                    structured_outputs=StructuredOutputsParams(choice=task.allowed(pair)),
                )
                for pair in pairs
            ],
            use_tqdm=False,
        )
        winners = task.clusters([output.outputs[0].text for output in outputs])
        return Answer(winners, time.monotonic() - begun)
