"""Embeddings of items, computed from their texts where the input has none."""

import logging
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from models.clustering.text_encoder import TextEncoder
from transforms import schemas as col
from transforms.errors import InputError, as_input_error
from transforms.tables.shuffle import Kept, table_of
from transforms.workers.progress import PartsDone

log = logging.getLogger("interest-explorer")

_ENCODE_ROWS = 512
_LOG_SECONDS = 5.0


def item_texts(items: pa.Table) -> list[str]:
    """Join the title, keywords and text of each item."""
    return [
        " | ".join(part for part in (title, ", ".join(keywords or []), text) if part)
        for title, keywords, text in zip(
            items[col.TITLE].to_pylist(),
            items[col.KEYWORDS].to_pylist(),
            items[col.TEXT].to_pylist(),
            strict=True,
        )
    ]


def embeddings_of(items: pa.Table) -> np.ndarray:
    """Return embeddings [items, dimension] float32; InputError if their lengths differ."""
    column = items[col.EMBEDDING].combine_chunks()
    lengths = pc.value_counts(pc.list_value_length(column)).to_pylist()
    if len(lengths) > 1:
        found = ", ".join(f"{one['values']} ({one['counts']:,} items)" for one in lengths)
        raise InputError(f"the embeddings of the items have different lengths: {found}")
    return pc.list_flatten(column).to_numpy().reshape(len(column), -1)


@dataclass(eq=False)
class EmbedItems(beam.PTransform):
    """(part, Kept ITEMS) -> (part, ITEMS) with an embedding of each item's text."""

    encoder: str

    def expand(self, items: beam.PCollection) -> beam.PCollection[tuple[int, pa.Table]]:
        from transforms.workers.batch_inference import BatchHandler, RunInference

        name = self.encoder
        handler = BatchHandler(lambda: _Embedder(name), lambda model, part: model.embed(*part))
        return (
            items
            # Before the encoder, so that a retried bundle gets the same batches.
            | "Spread" >> beam.Reshuffle()
            | "Encode" >> RunInference(handler).with_output_types(tuple[int, pa.Table])
        )


class _Embedder:
    """A text encoder that logs the progress of this worker."""

    def __init__(self, encoder: str) -> None:
        with as_input_error("--text_encoder: "):
            self._encoder = TextEncoder(encoder)
        self._done = PartsDone("build_clusters", "items embedded", _LOG_SECONDS)

    def embed(self, part: int, kept: Kept) -> tuple[int, pa.Table]:
        items = table_of(kept)
        texts = item_texts(items)
        batches = [np.empty((0, self._encoder.dimension), np.float32)]
        for start in range(0, len(texts), _ENCODE_ROWS):
            batches.append(self._encoder.encode(texts[start : start + _ENCODE_ROWS]))
            self._done.add_rows(len(batches[-1]))
        self._done.add_part()
        Metrics.counter(EmbedItems, "items_embedded").inc(len(texts))
        vectors = np.concatenate(batches)  # [items, dimension]
        at = items.schema.get_field_index(col.EMBEDDING)
        return part, items.set_column(at, col.ITEMS.field(col.EMBEDDING), as_lists(vectors))


def as_lists(rows: np.ndarray) -> pa.ListArray:
    """Return an array [rows, width] as a column of lists."""
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))
