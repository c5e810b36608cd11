"""Calls the SavedModel on histories: one copy per machine, batches of similar length."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms import schemas as col
from transforms.storage.folders import local_copy
from transforms.workers.shared_process import SharedProcess

# Limits of a call: histories, and items with padding.
_BATCH_ROWS, _BATCH_ITEMS = 256, 1 << 18


class HistoryModel:
    """The SavedModel in a folder, shared by the workers of a machine that know the secret."""

    def __init__(self, pipeline: str, folder: str, secret: str) -> None:
        factory = "models.retrieval.serving.saved_model:SavedModel"
        arguments = {"path": local_copy(folder)}
        self._process = SharedProcess(pipeline, "retriever", factory, arguments, secret)

    def answer(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Call a signature, as `models.retrieval.serving.saved_model.SavedModel.answer`."""
        found: dict[str, np.ndarray] = self._process.call("answer", signature, inputs)
        return found


def in_batches(rows: pa.Table, *ties: str) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Cut rows into batches of similar history length, the same ones in every attempt.

    Parameters
    ----------
    rows
        With a column ITEM_IDS, list<string> without nulls: the histories, oldest first.
    ties
        Columns that order histories of equal length; together they are unique.

    Yields
    ------
    The rows of a batch, and their histories as `padded` returns them.
    """
    lengths = pc.list_value_length(rows[col.ITEM_IDS])
    order = pa.table([lengths, *(rows[name] for name in ties)], ["length", *ties])
    at = pc.sort_indices(order, [(name, "ascending") for name in order.column_names])
    rows = rows.take(at)
    for start, stop in batches(lengths.take(at).to_numpy()):
        batch = rows.slice(start, stop - start).combine_chunks()
        yield batch, padded(batch[col.ITEM_IDS].combine_chunks())


def padded(histories: pa.ListArray) -> np.ndarray:
    """Return lists of strings [rows], without nulls, as [rows, longest] objects padded with ""."""
    lengths = pc.list_value_length(histories).to_numpy()
    there = np.arange(lengths.max(initial=0)) < lengths[:, None]  # [rows, longest]
    array = np.full(there.shape, "", object)
    array[there] = pc.list_flatten(histories).to_numpy(zero_copy_only=False)
    return array


def batches(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of batches of ascending lengths [rows], within the limits of a call.

    A longer history is a batch of its own: padding to a million items would fill the memory.
    """
    lengths = lengths.astype(np.int64)  # their products exceed 32 bits
    start = 0
    while start < len(lengths):
        stop = start + 1
        while (
            stop < len(lengths)
            and stop - start < _BATCH_ROWS
            and (stop - start + 1) * lengths[stop] <= _BATCH_ITEMS
        ):
            stop += 1
        yield start, stop
        start = stop
