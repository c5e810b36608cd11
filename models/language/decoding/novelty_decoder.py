"""The language policy: pairs of interests in, the most probable novel interests out."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.language.decoding.constrained_decoding import Question, constrained_top
from models.language.decoding.vllm_engine import VllmEngine
from models.language.language_model import load_tokenizer
from models.language.output_head import OutputHead
from models.language.prompt import Prompts, description_trie


class NoveltyDecoder:
    """A language model that answers with descriptions of clusters only.

    Parameters
    ----------
    model
        Local Hugging Face folder.
    prompts
        Of all pairs of the M clusters.
    blocked
        Ids of the clusters that are never an answer.
    n
        How many answers per pair.
    seed, engine_args
        Of the engine.

    Raises
    ------
    ValueError
        If the tokenizer can't tell two descriptions apart, or merges prompt and description, or
        the folder lacks the weights of the output head.
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
        # [branches][k] where the tokens of each branch are among all
        self._places = [np.searchsorted(tokens, branch.tokens) for branch in branches]
        self._head = OutputHead(model, tokens)
        self._engine = VllmEngine(model, seed, engine_args)

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
        prompts = self._tokenizer(
            [self._prompts.render(a, b) for a, b in zip(c1.tolist(), c2.tolist(), strict=True)]
        )["input_ids"]
        rows = np.arange(len(c1))
        excluded = np.zeros((len(c1), len(self._prompts.descriptions)), bool)  # [pairs, M]
        excluded[:, self._blocked] = True
        excluded[rows, c1] = excluded[rows, c2] = True

        def ask(questions: Sequence[Question]) -> list[np.ndarray]:
            states = self._engine.last_hidden_states(
                [
                    [*prompts[question.row], *self._trie.branches[question.branch].path]
                    for question in questions
                ]
            )
            logits = self._head.logits(states)  # [questions, tokens]
            places = (self._places[question.branch] for question in questions)
            return [row[place] for row, place in zip(logits, places, strict=True)]

        return constrained_top(self._trie, ask, excluded, self._n)

    def engine_seconds(self) -> float:
        """Return how long the engine has worked; the rest of the time went into what is around."""
        return self._engine.seconds
