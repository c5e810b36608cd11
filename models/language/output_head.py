"""The rows of a language model's output head for the tokens of descriptions.

The whole head takes as long as several layers of a small model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class OutputHead:
    """The rows of the output head for token ids [k], in float32.

    In bfloat16 a logit has three digits: close clusters would tie or change places.

    Raises ValueError if the model folder does not hold the weights of the head.
    """

    def __init__(self, model: str, tokens: np.ndarray) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        with torch.device("meta"):  # shapes and names only
            config = AutoConfig.from_pretrained(model, trust_remote_code=False)
            empty = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        head = empty.get_output_embeddings()
        rows = torch.from_numpy(tokens)
        self._weight = _read(model, _names(empty, head.weight))[rows].float()  # [k, width]
        bias = getattr(head, "bias", None)
        self._bias = None if bias is None else _read(model, _names(empty, bias))[rows].float()

    def logits(self, states: np.ndarray) -> np.ndarray:
        """Return the logits [texts, k] float32 for last hidden states after the final norm."""
        import torch

        with torch.inference_mode():
            return torch.nn.functional.linear(
                torch.from_numpy(states), self._weight, self._bias
            ).numpy()


def check_output_head(model: Any) -> None:
    """Raise ValueError if logits are not the output head times the last hidden state."""
    import torch

    ids = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
        expected = model.get_output_embeddings()(output.hidden_states[-1])
    if not torch.allclose(output.logits.float(), expected.float(), rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__} scales or caps the logits of its output head, which the "
            "novelty table does not support; give another base model"
        )


def _names(model: Any, parameter: Any) -> list[str]:
    """Return the names of a parameter: a tied one has several."""
    every = model.named_parameters(remove_duplicate=False)
    return [name for name, other in every if other is parameter]


def _read(model: str, names: list[str]) -> Any:
    """Read the tensor that has one of the names from a model folder."""
    from safetensors import safe_open

    for path in sorted(Path(model).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in set(names) & set(file.keys()):
                return file.get_tensor(name)
    raise ValueError(
        f"the folder {model!r} has no {' or '.join(names)} in .safetensors; save the model again"
    )
