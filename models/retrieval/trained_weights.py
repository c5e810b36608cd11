"""The weights of a trained retriever as one file: what a refresh of its catalogue starts from."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from numpy.typing import NDArray
from safetensors import numpy as safetensors

from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever import RetrieverModel
from models.retrieval.retriever_config import RetrieverConfig

_HEADER, _QUERY = "retriever", "query."


@dataclass(frozen=True)
class TrainedWeights:
    """The query tower, and the vectors that it was trained with; popularity is not in them."""

    config: RetrieverConfig
    learned_from: dict[str, Any]  # which interactions, in words of the caller that JSON can hold
    item_ids: pa.StringArray  # [items]
    vectors: NDArray[np.float32]  # [items, dimension]
    content: NDArray[np.float32]  # [items, dimension], the vectors without the own embeddings
    query: list[NDArray[np.float32]]  # the variables of the query tower, in the order of Keras

    @classmethod
    def of(
        cls, model: RetrieverModel, catalogue: Catalogue, learned_from: dict[str, Any]
    ) -> "TrainedWeights":
        """Take the weights of a model that was trained on a catalogue."""
        every = tf.range(len(catalogue.item_ids))
        return cls(
            model.config,
            learned_from,
            pa.array(catalogue.item_ids, pa.string()),
            model.items.timeless(every).numpy(),
            model.items.timeless(every, tf.zeros_like(every, tf.bool)).numpy(),
            [variable.numpy() for variable in model.queries.variables],
        )

    def to_bytes(self) -> bytes:
        """Return the content of a .safetensors file; equal weights give equal bytes."""
        _, offsets, characters = self.item_ids.buffers()
        tensors: dict[str, NDArray[Any]] = {
            "item_ids.offsets": np.frombuffer(offsets, np.int32)[: len(self.item_ids) + 1],
            "item_ids.characters": np.frombuffer(characters, np.uint8),
            "vectors": self.vectors,
            "content": self.content,
        }
        tensors |= {f"{_QUERY}{index:04d}": value for index, value in enumerate(self.query)}
        header = {"config": asdict(self.config), "learned_from": self.learned_from}
        return safetensors.save(tensors, {_HEADER: json.dumps(header, sort_keys=True)})

    @classmethod
    def from_bytes(cls, content: bytes) -> "TrainedWeights":
        """Read the content of a file that `to_bytes` made.

        Raises ValueError if it is of a version with other settings.
        """
        tensors = safetensors.load(content)
        size = int.from_bytes(content[:8], "little")  # of the JSON at the beginning
        header = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_HEADER])
        offsets, characters = tensors["item_ids.offsets"], tensors["item_ids.characters"]
        try:
            config = RetrieverConfig(**header["config"])
        except TypeError:
            raise ValueError(
                "the trained weights are of another version of the retriever; train it again"
            ) from None
        return cls(
            config,
            header["learned_from"],
            pa.StringArray.from_buffers(
                len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(characters)
            ),
            tensors["vectors"],
            tensors["content"],
            [tensors[name] for name in sorted(tensors) if name.startswith(_QUERY)],
        )
