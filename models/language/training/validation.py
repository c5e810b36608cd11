"""Measures a language model on validation examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.language.description_trie import DescriptionTrie
from models.language.language_model import (
    branch_log_probabilities,
    generate_completions,
    has_bfloat16,
)
from models.language.prompt import description_token_ids
from models.language.training.examples import Example, collate, labelled_tokens

_BATCH = 16


def recall(log_probs: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Return the share of rows whose label [rows] is among the k largest of log_probs [rows, M].

    >>> recall(np.log([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]), np.array([0, 2]), 2)
    0.5
    """
    of_label = np.take_along_axis(log_probs, labels[:, None], axis=1)  # [rows, 1]
    better = (log_probs > of_label).sum(axis=1)
    return float(((better < k) & np.isfinite(of_label[:, 0])).mean())


class Measures:
    """Measures match rate and recall of a model on examples, see `HistoryRow`."""

    def __init__(
        self, tokenizer: Any, examples: Sequence[Example], descriptions: Sequence[str]
    ) -> None:
        self._tokenizer, self._descriptions = tokenizer, descriptions
        self._prompts = [example.prompt for example in examples]
        token_ids = description_token_ids(tokenizer, self._prompts[0], descriptions)
        self._longest = max(map(len, token_ids)) + 1
        self._trie = DescriptionTrie(token_ids, tokenizer.eos_token_id)
        self._excluded = np.zeros((len(examples), len(descriptions)), bool)  # [prompts, M]
        for row, example in enumerate(examples):
            self._excluded[row, list(example.excluded)] = True
        self._labels = np.array([example.label for example in examples])  # [prompts]

    def __call__(self, model: Any) -> dict[str, float]:
        """Return match_rate, recall_at_1 and recall_at_10."""
        import torch

        with torch.autocast(model.device.type, torch.bfloat16, enabled=has_bfloat16()):
            scores = branch_log_probabilities(model, self._tokenizer, self._prompts, self._trie)
            said = generate_completions(model, self._tokenizer, self._prompts, self._longest)
        log_probs = self._trie.log_probabilities(scores, self._excluded)
        return {
            "match_rate": sum(text in self._descriptions for text in said) / len(said),
            "recall_at_1": recall(log_probs, self._labels, 1),
            "recall_at_10": recall(log_probs, self._labels, 10),
        }


def mean_loss(model: Any, tokenizer: Any, examples: Sequence[Example]) -> float:
    """Return the mean negative log-likelihood of a completion token, the end token included."""
    import torch

    total, count = 0.0, 0
    for start in range(0, len(examples), _BATCH):
        rows = [labelled_tokens(tokenizer, each) for each in examples[start : start + _BATCH]]
        batch = collate(tokenizer.pad_token_id, rows)
        labels = batch.pop("labels")[:, 1:]
        with (
            torch.no_grad(),
            torch.autocast(model.device.type, torch.bfloat16, enabled=has_bfloat16()),
        ):
            inputs = {
                name: value.to(model.device) if torch.is_tensor(value) else value
                for name, value in batch.items()
            }
            logits = model(**inputs).logits[:, :-1].float().cpu()
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum"
        )
        total, count = total + float(loss), count + int((labels >= 0).sum())
    return total / count
