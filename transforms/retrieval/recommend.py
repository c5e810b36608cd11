"""Recommends items to users: their histories through the SavedModel."""

import secrets
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics

from transforms import schemas as col
from transforms.storage.manifest import RowCounts
from transforms.tables.combiners import SumFn
from transforms.tables.sharding import stable_hash
from transforms.transitions.user_sequences import item_ids_of
from transforms.workers.progress import PartsDone
from transforms.workers.saved_model import HistoryModel, in_batches

# How the pair of interests is chosen -> the SavedModel's signature.
PAIR_CHOICES = {
    "aligned": "explore_aligned",
    "recent": "explore",
    "sampled": "explore_sampled",
    "pooled": "explore_pooled",
}
_LOG_SECONDS = 10.0


@dataclass(eq=False)
class Recommend(beam.PTransform):
    """SEQUENCES -> RECOMMENDATIONS, and one RowCounts with their figures.

    All workers of a machine share one copy of the model. A user for whom nothing is new has no row.
    The result for a user depends on the history, the model, `pair_choice` and `seed`. TensorFlow
    does not promise that the last bits of a score are independent of the other users in the batch:
    a part that is retried is cut into the same batches.
    """

    saved_model: str
    item_clusters: beam.PCollection  # of one tuple: the ids and the clusters of the items
    pair_choice: str  # one of PAIR_CHOICES
    seed: int  # of the drawn pairs

    def expand(self, sequences: beam.PCollection[pa.Table]) -> Any:
        from transforms.workers.batch_inference import BatchHandler, RunInference

        saved_model, pair_choice, seed = self.saved_model, self.pair_choice, self.seed
        secret = secrets.token_hex(16)
        handler = BatchHandler(
            lambda: _Recommender(saved_model, pair_choice, seed, secret),
            lambda model, users: model.recommend(users),
        )
        # No shuffle here: parts come sorted out of an earlier one, and a retried part is the same.
        recommended = (
            sequences
            | "Histories"
            >> beam.Map(_histories, beam.pvalue.AsSingleton(self.item_clusters)).with_output_types(
                pa.Table
            )
            | "Infer" >> RunInference(handler).with_output_types(pa.Table)
        )
        found = recommended | "CountFound" >> _CountRows()
        figures = (
            sequences
            | "CountUsers" >> _CountRows()
            | "Figures" >> beam.Map(_figures, beam.pvalue.AsSingleton(found))
        )
        return recommended, figures


@dataclass(eq=False)
class _CountRows(beam.PTransform):
    """Tables -> the number of their rows."""

    def expand(self, tables: beam.PCollection[pa.Table]) -> beam.PCollection[int]:
        return tables | beam.Map(lambda table: table.num_rows) | beam.CombineGlobally(SumFn(int))


def _figures(users: int, found: int) -> RowCounts:
    return RowCounts(figures={"users": users, "users_without_novel": users - found})


def _histories(sequences: pa.Table, item_clusters: tuple[pa.Array, Any]) -> pa.Table:
    """Return user_id and the item ids of each user, oldest first."""
    item_ids = item_ids_of(sequences, item_clusters[0])
    return pa.table({col.USER_ID: sequences[col.USER_ID], col.ITEM_IDS: item_ids})


class _Recommender:
    """The SavedModel and the progress of this worker."""

    def __init__(self, saved_model: str, pair_choice: str, seed: int, secret: str) -> None:
        self._model = HistoryModel("recommend", saved_model, secret)
        self._signature, self._seed = PAIR_CHOICES[pair_choice], seed
        self._done = PartsDone("recommend", "users", _LOG_SECONDS)

    def recommend(self, users: pa.Table) -> pa.Table:
        """Return the RECOMMENDATIONS of a part of the users."""
        answers = [col.RECOMMENDATIONS.empty_table()]
        for some, history in in_batches(users, col.USER_ID):
            answers.append(self._batch(some[col.USER_ID].combine_chunks(), history))
            self._done.add_rows(some.num_rows)
        self._done.add_part()
        return pa.concat_tables(answers).combine_chunks()

    def _batch(self, user_ids: pa.Array, history: np.ndarray) -> pa.Table:
        inputs = {"history": history}
        if self._signature == PAIR_CHOICES["sampled"]:
            inputs["seed"] = stable_hash(user_ids, self._seed).view(np.int64)
        found = recommendations(user_ids, self._model.answer(self._signature, inputs))
        Metrics.counter(Recommend, "users_read").inc(len(user_ids))
        Metrics.counter(Recommend, "users_without_novel").inc(len(user_ids) - found.num_rows)
        return found


def recommendations(user_ids: pa.Array, answer: dict[str, np.ndarray]) -> pa.Table:
    """Return the RECOMMENDATIONS for users [batch] from the outputs of the signature.

    The outputs are [batch] or [batch, k].
    """
    found = answer["novel_cluster"] >= 0
    item_ids, scores = answer["item_ids"][found], answer["scores"][found]
    there = item_ids != b""  # [users, k]
    offsets = pa.array(np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int32))
    columns = {
        col.USER_ID: user_ids.filter(pa.array(found)),
        col.ITEM_IDS: pa.ListArray.from_arrays(
            offsets, pa.array(item_ids[there], pa.binary()).cast("string")
        ),
        col.SCORES: pa.ListArray.from_arrays(offsets, pa.array(scores[there], pa.float32())),
    }
    for field in col.RECOMMENDATIONS:
        if field.name not in columns:
            columns[field.name] = pa.array(answer[field.name][found], field.type)
    return pa.table(columns).select(col.RECOMMENDATIONS.names).cast(col.RECOMMENDATIONS)
