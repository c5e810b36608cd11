"""Training examples of a language model, as text and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.language.language_model import left_padded, positions
from models.language.prompt import completion_token_ids


@dataclass(frozen=True)
class Example:
    """A prompt and the description to answer."""

    prompt: str
    completion: str
    excluded: tuple[int, ...]  # clusters that are no answer: those of the prompt and blocked ones
    label: int  # the cluster of the completion


def labelled_tokens(tokenizer: Any, example: Example) -> dict[str, list[int]]:
    """Return the tokens of prompt, completion and end, with labels on completion and end."""
    prompt = tokenizer(example.prompt)["input_ids"]
    completion = completion_token_ids(tokenizer, example.prompt, example.completion)
    completion.append(tokenizer.eos_token_id)
    return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}


def collate(pad: int, rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """Pad rows on the left, so that completions end together and only their logits are computed."""
    import torch

    ids, mask = left_padded([row["input_ids"] for row in rows], pad)  # [batch, length]
    labels, _ = left_padded([row["labels"] for row in rows], -100)
    # The first completion token is predicted at the position before it.
    kept = ids.shape[1] - int((labels >= 0).any(axis=0).argmax()) + 1
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "position_ids": torch.from_numpy(positions(mask)),
        "labels": torch.from_numpy(labels[:, -kept:]),
        "logits_to_keep": kept,
    }
