"""vLLM, asked for the log-probabilities of given next tokens."""

import glob
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_MAX_TOKEN_IDS = 128  # that one request may ask the log-probabilities of
# The smallest block the CPU takes: the default of 128 is longer than a prompt, and only whole
# blocks of a prefix are shared.
_BLOCK_SIZE = 32


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
    """

    def __init__(self, model: str, seed: int, engine_args: dict[str, Any]) -> None:
        from vllm import LLM

        defaults = {
            "dtype": "auto",
            "block_size": _BLOCK_SIZE,
            "enforce_eager": True,  # compiling takes longer than a table on the CPU
            "enable_prefix_caching": True,
            "max_logprobs": _MAX_TOKEN_IDS,
        }
        self._llm = LLM(model, seed=seed, disable_log_stats=True, **(defaults | engine_args))
        self.tokenizer = self._llm.get_tokenizer()

    def forget(self) -> None:
        """Empty the prefix cache: what comes next does not depend on what came before."""
        self._llm.reset_prefix_cache()

    def log_probabilities(
        self, prompts: Sequence[Sequence[int]], tokens: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Return the log-probabilities of given tokens after each prompt.

        Parameters
        ----------
        prompts
            Token ids.
        tokens
            For each prompt [k] the tokens asked about.

        Returns
        -------
        For each prompt [k] float64.
        """
        from vllm import SamplingParams

        # Questions about more tokens than a request may name become several requests.
        parts = [
            (prompt, ids[start : start + _MAX_TOKEN_IDS].tolist())
            for prompt, ids in zip(prompts, tokens, strict=True)
            for start in range(0, len(ids), _MAX_TOKEN_IDS)
        ]
        outputs = self._llm.generate(
            [{"prompt_token_ids": list(prompt)} for prompt, _ in parts],
            [
                SamplingParams(
                    max_tokens=1,
                    temperature=0.0,
                    logprob_token_ids=ids,
                    flat_logprobs=True,
                    detokenize=False,
                )
                for _, ids in parts
            ],
            use_tqdm=False,
        )
        answers = iter(
            # The first entry is the sampled token's.
            np.array(output.outputs[0].logprobs.logprobs[1 : len(ids) + 1], np.float64)
            for output, (_, ids) in zip(outputs, parts, strict=True)
        )
        return [
            np.concatenate([next(answers) for _ in range(0, len(ids), _MAX_TOKEN_IDS)])
            for ids in tokens
        ]
