"""vLLM in process; each prompt has the choice of the descriptions allowed for its pair."""

import numpy as np

from benchmarks.novelty_table.task import Pair, Task


class VllmChoice:
    """`vllm.LLM.generate` with structured outputs, and the engine settings of ours."""

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

    def answer(self, pairs: list[Pair]) -> np.ndarray:
        """Return the greedy answer to each pair, [pairs, 1]."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        outputs = self._llm.generate(
            [self._task.prompts.render(*pair) for pair in pairs],
            [
                SamplingParams(
                    temperature=0.0,
                    max_tokens=self._task.max_tokens,
                    structured_outputs=StructuredOutputsParams(choice=self._task.allowed(pair)),
                )
                for pair in pairs
            ],
            use_tqdm=False,
        )
        return self._task.clusters([output.outputs[0].text for output in outputs])
