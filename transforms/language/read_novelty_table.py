"""Reads the novelty table into memory."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.interests.novelty_table import NoveltyTable
from transforms import schemas as col
from transforms.storage.stage_files import read_parts


def read_novelty_table(
    folder: str, descriptions: Sequence[str], blocked: tuple[int, ...] = ()
) -> NoveltyTable:
    """Read the novelty table in a folder."""
    return to_novelty_table(read_parts(folder, "", col.NOVELTY_TABLE), descriptions, blocked)


def to_novelty_table(
    rows: pa.Table, descriptions: Sequence[str], blocked: tuple[int, ...] = ()
) -> NoveltyTable:
    """Pack the NOVELTY_TABLE of all pairs, in any order."""
    rows = rows.sort_by([(col.C1, "ascending"), (col.C2, "ascending")]).combine_chunks()
    lists = rows[col.NOVEL].combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy()
    there = np.arange(max(1, lengths.max())) < lengths[:, None]  # [M * M, n]
    novel = np.full(there.shape, -1, np.int32)
    probability = np.zeros(there.shape, np.float32)
    novel[there] = pc.list_flatten(lists).to_numpy()
    probability[there] = pc.list_flatten(rows[col.PROBABILITY]).to_numpy()
    shape = (len(descriptions), len(descriptions), -1)
    return NoveltyTable(novel.reshape(shape), probability.reshape(shape), descriptions, blocked)
