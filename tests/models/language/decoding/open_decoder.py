"""A decoder whose engine can be asked too: one engine, which takes a minute to start, for both."""

from collections.abc import Sequence

import numpy as np

from models.language.decoding.novelty_decoder import NoveltyDecoder


class OpenDecoder(NoveltyDecoder):
    """Passes calls on to its engine."""

    def last_hidden_states(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        return self._engine.last_hidden_states(texts)

    def forget(self) -> None:
        self._engine.forget()
