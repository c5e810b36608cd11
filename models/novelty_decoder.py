"""The language policy: pairs of interests in, the most probable novel interests out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.constrained_decoding import constrained_top
from models.description_trie import DescriptionTrie
from models.prompt import PromptTemplate, completion_token_ids
from models.vllm_engine import VllmEngine


class NoveltyDecoder:
    """A language model that answers with descriptions of clusters only.

    Parameters
    ----------
    model
        Local Hugging Face folder.
    descriptions
        [M] of the clusters.
    template
        Text of the prompt template.
    blocked
        Ids of the clusters that are never an answer.
    n
        How many answers per pair.
    seed, engine_args
        Of the engine.

    Raises
    ------
    ValueError
        If the tokenizer can't tell two descriptions apart, or merges prompt and description.
    """

    def __init__(
        self,
        model: str,
        descriptions: Sequence[str],
        template: str,
        blocked: Sequence[int],
        n: int,
        seed: int,
        engine_args: dict[str, Any],
    ) -> None:
        self._descriptions = list(descriptions)
        self._template = PromptTemplate.parse(template)
        self._blocked = list(blocked)
        self._n = n
        self._engine = VllmEngine(model, seed, engine_args)
        self._tokenizer = self._engine.tokenizer
        prompt = self._template.render(self._descriptions[0], self._descriptions[0])
        self._trie = DescriptionTrie(
            [completion_token_ids(self._tokenizer, prompt, text) for text in self._descriptions],
            self._tokenizer.eos_token_id,
        )

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find the best novel clusters of each pair.

        The same pairs in one call give the same bits, whatever was decoded before.

        Parameters
        ----------
        c1, c2
            [pairs] cluster ids, older and newest interest.

        Returns
        -------
        clusters [pairs, n] int32, best first, -1 pads; probabilities [pairs, n] float32.
        """
        self._engine.forget()
        prompts = [
            self._tokenizer(self._template.render(self._descriptions[a], self._descriptions[b]))
            for a, b in zip(c1.tolist(), c2.tolist(), strict=True)
        ]
        rows = np.arange(len(c1))
        excluded = np.zeros((len(c1), len(self._descriptions)), bool)  # [pairs, M]
        excluded[:, self._blocked] = True
        excluded[rows, c1] = excluded[rows, c2] = True

        def ask(questions: Sequence[tuple[int, int]]) -> list[np.ndarray]:
            branches = [self._trie.branches[branch] for _, branch in questions]
            return self._engine.log_probabilities(
                [
                    [*prompts[row]["input_ids"], *branch.path]
                    for (row, _), branch in zip(questions, branches, strict=True)
                ],
                [branch.tokens for branch in branches],
            )

        return constrained_top(self._trie, ask, excluded, self._n)
