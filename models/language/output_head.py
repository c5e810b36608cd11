"""The output head of a language model, for the few tokens that are worth computing.

A head gives every token of the vocabulary a logit, and takes as long as several layers of a small
model. A constrained decoder looks at the tokens of some descriptions only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class OutputHead:
    """The rows of an output head that belong to some tokens, in float32.

    In bfloat16 a logit has three digits: close clusters would tie or change places.

    Parameters
    ----------
    model : str
        Local Hugging Face folder with its weights in safetensors.
    tokens : np.ndarray
        [k] int64 token ids.

    Raises
    ------
    ValueError
        If the folder does not hold the weights of the head.
    """

    def __init__(self, model: str, tokens: np.ndarray) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        with torch.device("meta"):  # the shapes and names alone
            empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
        head = empty.get_output_embeddings()
        rows = torch.from_numpy(tokens)
        self._weight = _read(model, _names(empty, head.weight))[rows].float()  # [k, width]
        bias = getattr(head, "bias", None)
        self._bias = None if bias is None else _read(model, _names(empty, bias))[rows].float()

    def logits(self, states: np.ndarray) -> np.ndarray:
        """Return the tokens' logits after each text, [texts, k] float32.

        Parameters
        ----------
        states
            [texts, width] float32: the last hidden state of each text, after the final norm.
        """
        import torch

        with torch.inference_mode():
            return torch.nn.functional.linear(
                torch.from_numpy(states), self._weight, self._bias
            ).numpy()


def check_output_head(model: Any) -> None:
    """Check that a model's logits are what its output head makes of the last hidden state.

    Raises
    ------
    ValueError
        If the model scales or caps them, or does anything else with them.
    """
    import torch

    ids = torch.arange(8, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
        expected = model.get_output_embeddings()(output.hidden_states[-1])
    if not torch.allclose(output.logits.float(), expected.float(), rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__} scales or caps the logits of its output head, which the "
            "novelty table knows nothing of; give a base model that does not"
        )


def _names(model: Any, parameter: Any) -> list[str]:
    """Return the names of a parameter, more than one where it is tied to another."""
    every = model.named_parameters(remove_duplicate=False)
    return [name for name, other in every if other is parameter]


def _read(model: str, names: list[str]) -> Any:
    """Read the tensor that has one of some names out of a model folder."""
    from safetensors import safe_open

    for path in sorted(Path(model).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in set(names) & set(file.keys()):
                return file.get_tensor(name)
    raise ValueError(
        f"the folder {model!r} has no {' or '.join(names)} in .safetensors; save the model again"
    )
