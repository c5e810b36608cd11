"""The text encoder that turns the texts of items into embeddings."""

import importlib.util
from pathlib import Path

import numpy as np

from models.language.language_model import quiet_transformers

_MAX_CHARACTERS = 2_000  # far more than the 256 tokens of the encoder
_PACKAGE = "package:"


def local_path(name: str) -> Path | None:
    """Return the folder of a text encoder, None for a hub id; ValueError if it does not exist."""
    if name.startswith(_PACKAGE):
        module = name.removeprefix(_PACKAGE)
        spec = importlib.util.find_spec(module) if module.isidentifier() else None
        if spec is None or spec.origin is None:
            raise ValueError(
                f"no module {module!r}; run `pip install {module.replace('_', '-')}` or name "
                "another text encoder"
            )
        return Path(spec.origin).parent / "model"
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")):
        raise ValueError(f"there is no folder {name!r}; check the path")
    return None


class TextEncoder:
    """A sentence-transformers model: a hub id, a folder, or `package:<module>`.

    The last one is a wheel with the model in its folder `model`. Raises ValueError if the model
    does not exist.
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer

        try:
            with quiet_transformers():
                self._model = SentenceTransformer(str(local_path(name) or name))
        except OSError as error:
            raise ValueError(
                f"cannot load the text encoder {name!r}: {str(error).splitlines()[0]} Give a "
                "folder, package:<module> or a hub id that can be downloaded"
            ) from error
        self.dimension: int = self._model.get_embedding_dimension() or 0

    def encode(self, texts: list[str]) -> np.ndarray:
        """Return the embeddings of texts, [texts, dimension] float32 of length 1."""
        return self._model.encode(
            [text[:_MAX_CHARACTERS] for text in texts],
            normalize_embeddings=True,
            show_progress_bar=False,
        )
