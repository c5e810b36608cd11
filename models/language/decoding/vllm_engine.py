"""The hidden states of texts in vLLM."""

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
    """Return the environment of a process that hosts vLLM in process.

    In one process the engine schedules request by request, so that runs repeat to the bit; with
    own processes it schedules by time of arrival. On the CPU vLLM preloads PyTorch's OpenMP and its
    allocator into those processes; here the environment does it.
    """
    preload: list[str] = []
    for package, pattern in (("vllm", "libs/libtcmalloc*.so*"), ("torch", "lib/libgomp*.so*")):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            preload += sorted(glob.glob(str(Path(spec.origin).parent / pattern)))[:1]
    return {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        # Else its process group listens at the address that the machine's name stands for.
        "GLOO_SOCKET_IFNAME": "lo",
        "VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2"),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "LD_PRELOAD": ":".join([*preload, *filter(None, [os.environ.get("LD_PRELOAD")])]),
    }


class VllmEngine:
    """The layers of a language model in vLLM, in this process; see `engine_environment`.

    Further arguments of `vllm.LLM` override the defaults.
    """

    def __init__(self, model: str, seed: int, engine_args: dict[str, Any]) -> None:
        from vllm import LLM
        from vllm.platforms import current_platform

        defaults: dict[str, Any] = {
            "dtype": "auto" if has_bfloat16() else "float32",
            "block_size": BLOCK_TOKENS,  # on the CPU it would be 128, longer than a prompt
            "enforce_eager": True,  # on the CPU compiling takes longer than a table
            "enable_prefix_caching": True,
        }
        if current_platform.is_cpu():
            defaults["max_num_seqs"] = 128  # a larger step does not fit the CPU's caches
        # Both of vLLM's model runners serve embedding models.
        ours = {
            "runner": "pooling",
            "convert": "embed",
            "disable_log_stats": True,
            "trust_remote_code": False,
        }
        self._llm = LLM(model, seed=seed, **(defaults | engine_args | ours))
        self.seconds = 0.0  # of work so far

    def forget(self) -> None:
        """Empty the prefix cache, so that results do not depend on earlier texts."""
        self._llm.reset_prefix_cache()

    def last_hidden_states(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """Return the last token's hidden state after the final norm, [texts, width] float32."""
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
