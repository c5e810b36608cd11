"""The text encoder that turns the texts of items into embeddings."""

import numpy as np

from models.common.model_location import model_path
from models.language.language_model import quiet_transformers

_MAX_CHARACTERS = 2_000  # far beyond the encoder's 256 tokens; a tokenizer reads all it is given


class TextEncoder:
    """A sentence-transformers model; `model_path` says what a name can be.

    Raises ValueError if there is no such model.
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        found = str(model_path(name) or name)
        try:
            with quiet_transformers():
                self._model = SentenceTransformer(found, trust_remote_code=False)
        except (OSError, ValueError) as error:  # ValueError: code of the model would have to run
            raise ValueError(
                f"cannot load the text encoder {name!r}: {str(error).splitlines()[0]} Give a "
                "folder, package:<module> or a hub id that can be downloaded"
            ) from error
        self.dimension: int = self._model.get_embedding_dimension() or 0

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embed texts as vectors of length 1, [texts, dimension] float32."""
        return self._model.encode(
            [text[:_MAX_CHARACTERS] for text in texts],
            normalize_embeddings=True,
            show_progress_bar=False,
        )
