"""vLLM, asked for what a language model makes of texts."""

import glob
import importlib.util
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.language.language_model import has_bfloat16
from models.language.prompt import BLOCK_TOKENS


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
    """The layers of a language model in vLLM, in this process; see `engine_environment`.

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
        from vllm.platforms import current_platform

        defaults: dict[str, Any] = {
            "dtype": "auto" if has_bfloat16() else "float32",
            "block_size": BLOCK_TOKENS,  # on the CPU it would be 128, longer than a prompt
            "enforce_eager": True,  # compiling takes longer than a table on the CPU
            "enable_prefix_caching": True,
        }
        if current_platform.is_cpu():
            defaults["max_num_seqs"] = 128  # what a step of more prompts computes leaves the caches
        # As an embedding model: both of vLLM's model runners serve those.
        ours = {"runner": "pooling", "convert": "embed", "disable_log_stats": True}
        self._llm = LLM(model, seed=seed, **(defaults | engine_args | ours))
        self.seconds = 0.0  # that it has worked

    def forget(self) -> None:
        """Empty the prefix cache: what comes next does not depend on what came before."""
        self._llm.reset_prefix_cache()

    def last_hidden_states(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the hidden state of the last token of each text, after the final norm.

        Parameters
        ----------
        texts
            Token ids.

        Returns
        -------
        [texts, width] float32.
        """
        from vllm import PoolingParams

        begun = time.perf_counter()
        outputs = self._llm.encode(
            [{"prompt_token_ids": list(text)} for text in texts],
            pooling_params=PoolingParams(use_activation=False),  # no normalising
            pooling_task="embed",
            use_tqdm=False,
        )
        self.seconds += time.perf_counter() - begun
        return np.stack([output.outputs.data.numpy() for output in outputs])
