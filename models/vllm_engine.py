"""vLLM, asked which of given tokens come next, and how probable they are."""

import glob
import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.prompt import BLOCK_TOKENS

# Tokens that vLLM's second model runner can be told to choose from; the first knows no limit.
_MAX_TOKENS_V2 = 1024

# Tokens [count] int64 and their log-probabilities [count] float64, best first.
Answer = tuple[np.ndarray, np.ndarray]


def engine_environment() -> dict[str, str]:
    """Return the environment that a process needs to host vLLM in process.

    There the engine schedules request by request, so that a run can be repeated to the bit; with
    processes of its own it schedules by time of arrival. vLLM preloads the OpenMP of PyTorch and
    its own allocator into those processes on the CPU, so here this has to be done for it.
    """
    preload: list[str] = []
    for package, pattern in (("vllm", "libs/libtcmalloc*.so*"), ("torch", "lib/libgomp*.so*")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            preload += sorted(glob.glob(str(Path(spec.origin).parent / pattern)))[:1]
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2"),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "LD_PRELOAD": ":".join([*preload, *filter(None, [os.environ.get("LD_PRELOAD")])]),
    }


class VllmEngine:
    """A language model in vLLM, in this process; see `engine_environment`.

    Parameters
    ----------
    model
        Local Hugging Face folder.
    seed
        Of the engine.
    engine_args
        Further arguments of `vllm.LLM`.
    widest
        Most tokens that a question will name.
    """

    def __init__(self, model: str, seed: int, engine_args: dict[str, Any], widest: int) -> None:
        if widest > _MAX_TOKENS_V2:
            os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # read when vllm is imported
        from vllm import LLM

        defaults = {
            "dtype": "auto",
            "block_size": BLOCK_TOKENS,  # on the CPU it would be 128, longer than a prompt
            "enforce_eager": True,  # compiling takes longer than a table on the CPU
            "enable_prefix_caching": True,
            "max_logprobs": -1,  # no limit
            # In bfloat16 a logit has three digits: close clusters would tie or change places.
            "hf_overrides": {"head_dtype": "float32"},
        }
        # What comes back are log-probabilities among the tokens that a question names.
        ours = {"logprobs_mode": "processed_logprobs", "disable_log_stats": True}
        self._llm = LLM(model, seed=seed, **(defaults | engine_args | ours))
        self.seconds = 0.0  # that it has worked

    def forget(self) -> None:
        """Empty the prefix cache: what comes next does not depend on what came before."""
        self._llm.reset_prefix_cache()

    def most_probable(
        self,
        prompts: Sequence[Sequence[int]],
        tokens: Sequence[np.ndarray],
        counts: Sequence[int],
    ) -> list[Answer]:
        """Choose the most probable next tokens after each prompt, among given ones.

        Parameters
        ----------
        prompts
            Token ids.
        tokens
            For each prompt [k] the tokens to choose from.
        counts
            For each prompt, how many of them to return; at most k.

        Returns
        -------
        For each prompt [count] tokens and their log-probabilities; those of all k tokens sum to 1.
        """
        from vllm import SamplingParams

        begun = time.perf_counter()
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt in prompts],
            [
                SamplingParams(
                    max_tokens=1,
                    temperature=0.0,
                    allowed_token_ids=ids.tolist(),
                    logprobs=count,
                    flat_logprobs=True,
                    detokenize=False,
                )
                for ids, count in zip(tokens, counts, strict=True)
            ],
            use_tqdm=False,
        )
        self.seconds += time.perf_counter() - begun
        answers = []
        for output, count in zip(outputs, counts, strict=True):
            found = output.outputs[0].logprobs
            places = slice(1, count + 1)  # the first is the sampled token once more
            answers.append(
                (
                    np.array(found.token_ids[places], np.int64),
                    np.array(found.logprobs[places], np.float64),
                )
            )
        return answers
