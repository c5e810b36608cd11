"""The constrained distribution as it is defined: transformers in float32."""

import time

import numpy as np

from benchmarks.task import Answer, Task
from models.language.prompt import description_trie


class Exact:
    """Scores every description at every branch of their trie, in float32.

    Parameters
    ----------
    task
    """

    def __init__(self, task: Task) -> None:
        from models.language.language_model import load_language_model

        self._task = task
        self._model, self._tokenizer = load_language_model(task.model, "float32")
        self._trie = description_trie(self._tokenizer, task.prompts)

    def answer(self, parts: list[list[int]]) -> list[Answer]:
        """Answer all pairs of some rows, part by part."""
        return [self._part(rows) for rows in parts]

    def _part(self, rows: list[int]) -> Answer:
        import torch

        from models.language.language_model import branch_log_probabilities

        begun = time.monotonic()
        pairs = self._task.pairs(rows)
        excluded = np.zeros((len(pairs), self._task.size), bool)
        for row, pair in enumerate(pairs):
            excluded[row, list(pair)] = True
        texts = [self._task.prompts.render(*pair) for pair in pairs]
        with torch.inference_mode():
            scores = branch_log_probabilities(self._model, self._tokenizer, texts, self._trie)
        distribution = self._trie.log_probabilities(scores, excluded)
        best = distribution.argmax(axis=1)[:, None]
        return Answer(best, time.monotonic() - begun)
