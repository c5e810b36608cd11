"""Decodes pairs of interests to the most probable novel interests."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.language.decoding.constrained_decoding import Query, constrained_top
from models.language.decoding.vllm_engine import VllmEngine
from models.language.language_model import load_tokenizer
from models.language.output_head import OutputHead
from models.language.prompt import Prompts, description_trie


class NoveltyDecoder:
    """A language model that answers only with descriptions of clusters, at most n per pair.

    Raises ValueError if the tokenizer cannot separate two descriptions or merges prompt and
    description, or the model folder lacks the weights of the output head.
    """

    def __init__(
        self,
        model: str,
        prompts: Prompts,
        blocked: Sequence[int],
        n: int,
        seed: int,
        engine_args: dict[str, Any],
    ) -> None:
        self._prompts, self._blocked, self._n = prompts, list(blocked), n
        self._tokenizer = load_tokenizer(model)
        self._trie = description_trie(self._tokenizer, prompts)
        branches = self._trie.branches
        tokens = np.array(sorted({token for b in branches for token in b.tokens.tolist()}), int)
        # [branches][k] index of the branch's tokens in `tokens`
        self._places = [np.searchsorted(tokens, branch.tokens) for branch in branches]
        self._head = OutputHead(model, tokens)
        self._engine = VllmEngine(model, seed, engine_args)

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the best novel clusters of pairs of cluster ids (older, newest), [pairs] each.

        The same pairs in one call give the same bits after any earlier calls.

        Returns
        -------
        clusters, probabilities
            [pairs, n] int32, best first, -1 pads; and [pairs, n] float32.
        """
        self._engine.forget()
        prompts = self._tokenizer(
            [self._prompts.render(a, b) for a, b in zip(c1.tolist(), c2.tolist(), strict=True)]
        )["input_ids"]
        rows = np.arange(len(c1))
        excluded = np.zeros((len(c1), len(self._prompts.descriptions)), bool)  # [pairs, M]
        excluded[:, self._blocked] = True
        excluded[rows, c1] = excluded[rows, c2] = True

        def ask(queries: Sequence[Query]) -> list[np.ndarray]:
            states = self._engine.last_hidden_states(
                [
                    [*prompts[query.row], *self._trie.branches[query.branch].path]
                    for query in queries
                ]
            )
            logits = self._head.logits(states)  # [queries, tokens]
            places = (self._places[query.branch] for query in queries)
            return [row[place] for row, place in zip(logits, places, strict=True)]

        return constrained_top(self._trie, ask, excluded, self._n)

    def engine_seconds(self) -> float:
        """Return the seconds that the engine itself has worked."""
        return self._engine.seconds
