"""The constrained distribution by its definition: transformers in float32."""

import numpy as np

from benchmarks.novelty_table.task import Pair, Task
from models.language.prompt import description_trie


class Exact:
    """Scores every description at every branch of their trie, in float32."""

    def __init__(self, task: Task) -> None:
        from models.language.language_model import load_language_model

        self._task = task
        self._model, self._tokenizer = load_language_model(task.model, "float32")
        self._trie = description_trie(self._tokenizer, task.prompts)

    def answer(self, pairs: list[Pair]) -> np.ndarray:
        """Return the best cluster of each pair, [pairs, 1]."""
        import torch

        from models.language.language_model import branch_log_probabilities

        excluded = np.zeros((len(pairs), self._task.size), bool)
        for row, pair in enumerate(pairs):
            excluded[row, list(pair)] = True
        texts = [self._task.prompts.render(*pair) for pair in pairs]
        with torch.inference_mode():
            scores = branch_log_probabilities(self._model, self._tokenizer, texts, self._trie)
        return self._trie.log_probabilities(scores, excluded).argmax(axis=1)[:, None]
