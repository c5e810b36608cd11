"""transformers' own generation, constrained to a trie of the descriptions' tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.novelty_table.task import Pair, Task
from models.language.prompt import completion_token_ids

_BATCH = 32  # prompts; the fastest on two cores


class TransformersTrie:
    """`generate` with `prefix_allowed_tokens_fn`: greedy, in bfloat16, in batches."""

    def __init__(self, task: Task) -> None:
        from models.language.language_model import load_language_model

        self._task = task
        self._model, self._tokenizer = load_language_model(task.model, "bfloat16")
        prompt = task.prompts.render(0, 0)
        # For each prefix: the tokens that may follow, and the clusters that each token leads to.
        self._trie: dict[tuple[int, ...], dict[int, set[int]]] = {}
        for cluster, text in enumerate(task.prompts.descriptions):
            ids = completion_token_ids(self._tokenizer, prompt, text)
            ids.append(self._tokenizer.eos_token_id)
            for depth, token in enumerate(ids):
                after = self._trie.setdefault(tuple(ids[:depth]), {})
                after.setdefault(token, set()).add(cluster)
        self._longest = max(map(len, self._trie)) + 1

    def answer(self, pairs: list[Pair]) -> np.ndarray:
        """Return the greedy answer to each pair, [pairs, 1]."""
        answers: list[str] = []
        for start in range(0, len(pairs), _BATCH):
            answers += self._batch(pairs[start : start + _BATCH])
        return self._task.clusters(answers)

    def _batch(self, pairs: Sequence[Pair]) -> list[str]:
        import torch

        from models.language.language_model import left_padded

        tokenizer = self._tokenizer
        prompts = [tokenizer(self._task.prompts.render(*pair))["input_ids"] for pair in pairs]
        ids, mask = left_padded(prompts, tokenizer.pad_token_id)
        length = ids.shape[1]

        def allowed(row: int, sequence: Any) -> list[int]:
            after = self._trie.get(tuple(sequence[length:].tolist()))
            if after is None:  # the description is complete
                return [tokenizer.eos_token_id]
            known = set(pairs[row])
            return [token for token, clusters in after.items() if clusters - known]

        with torch.inference_mode():
            found = self._model.generate(
                input_ids=torch.from_numpy(ids),
                attention_mask=torch.from_numpy(mask),
                max_new_tokens=self._longest,
                do_sample=False,
                use_cache=True,
                prefix_allowed_tokens_fn=allowed,
            )
        return list(tokenizer.batch_decode(found[:, length:], skip_special_tokens=True))
