"""Users' histories through the SavedModel."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.folders import local_copy
from transforms.sequences import item_ids_of

log = logging.getLogger("interest-explorer")

# A call of the model takes this many users at most, and histories padded to this many items.
_BATCH_USERS, _BATCH_ITEMS = 256, 1 << 18


@dataclass(eq=False)
class Explore(beam.PTransform):
    """SEQUENCES -> RECOMMENDATIONS, through the signature `explore`.

    Users for whom nothing is new have no row.

    Attributes
    ----------
    saved_model
        Its folder.
    catalogue
        A PCollection of one tuple that begins with the ids of the items of the catalogue.
    """

    saved_model: str
    catalogue: beam.PCollection

    def expand(self, sequences: beam.PCollection[pa.Table]) -> beam.PCollection[pa.Table]:
        from transforms.inference import BatchHandler, RunInference

        saved_model = self.saved_model
        handler = BatchHandler(lambda: _load(saved_model), _explore_users)
        return (
            sequences
            | "Histories"
            >> beam.Map(_histories, beam.pvalue.AsSingleton(self.catalogue)).with_output_types(
                pa.Table
            )
            | "Spread" >> beam.Reshuffle()
            | "Infer" >> RunInference(handler).with_output_types(pa.Table)
        )


def _histories(sequences: pa.Table, catalogue: tuple[pa.Array, Any]) -> pa.Table:
    """Return user_id and the ids of the items of each user, oldest first."""
    item_ids = item_ids_of(sequences, catalogue[0])
    return pa.table({col.USER_ID: sequences[col.USER_ID], col.ITEM_IDS: item_ids})


def _load(saved_model: str) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(local_copy(saved_model))


def _explore_users(model: Any, users: pa.Table) -> pa.Table:
    answers = [col.RECOMMENDATIONS.empty_table(), *_explore(model, users)]
    return pa.concat_tables(answers).combine_chunks()


def _explore(model: Any, sequences: pa.Table) -> Iterator[pa.Table]:
    import tensorflow as tf

    explore = model.signatures["explore"]
    # Histories of about one length pad each other little; ties by user keep batches the same.
    by_length = sequences.append_column(
        "length", pc.list_value_length(sequences[col.ITEM_IDS])
    ).sort_by([("length", "ascending"), (col.USER_ID, "ascending")])
    for start, stop in batches(by_length["length"].to_numpy()):
        users = by_length.slice(start, stop - start)
        histories = users[col.ITEM_IDS].to_pylist()
        longest = len(histories[-1])
        padded = [history + [""] * (longest - len(history)) for history in histories]
        answer = explore(history=tf.constant(padded, tf.string, [len(padded), longest]))
        found = recommendations(
            users[col.USER_ID].combine_chunks(),
            {name: value.numpy() for name, value in answer.items()},
        )
        Metrics.counter("recommend", "users_read").inc(users.num_rows)
        Metrics.counter("recommend", "users_without_novel").inc(users.num_rows - found.num_rows)
        yield found
    log.info("recommend: %s users done", f"{sequences.num_rows:,}")


def batches(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Cut users into batches, so that one with a million events fills no memory with padding.

    Parameters
    ----------
    lengths
        [users] of the histories, ascending.

    Yields
    ------
    (start, stop) of each batch.
    """
    start = 0
    while start < len(lengths):
        stop = start + 1
        while (
            stop < len(lengths)
            and stop - start < _BATCH_USERS
            and (stop - start + 1) * lengths[stop] <= _BATCH_ITEMS
        ):
            stop += 1
        yield start, stop
        start = stop


def recommendations(user_ids: pa.Array, answer: dict[str, np.ndarray]) -> pa.Table:
    """Return the RECOMMENDATIONS of what the signature `explore` answers to a batch of users.

    Parameters
    ----------
    user_ids
        [batch]
    answer
        Outputs of the signature, each [batch] or [batch, k].
    """
    found = answer["novel_cluster"] >= 0
    item_ids, scores = answer["item_ids"][found], answer["scores"][found]
    there = item_ids != b""  # [users, k]
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32))
    return pa.table(
        [
            user_ids.filter(pa.array(found)),
            *(
                pa.array(answer[name][found], col.RECOMMENDATIONS.field(name).type)
                for name in (col.NOVEL_CLUSTER, col.C1, col.C2, col.PROBABILITY)
            ),
            pa.ListArray.from_arrays(
                offsets, pa.array(item_ids[there], pa.binary()).cast("string")
            ),
            pa.ListArray.from_arrays(offsets, pa.array(scores[there], pa.float32())),
        ],
        schema=col.RECOMMENDATIONS,
    )
