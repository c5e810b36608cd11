"""Scores all policies on sampled test transitions, those of the SavedModel among them.

The SavedModel is asked for items of the user's novel cluster and of any cluster, and for the parts
of the aligned score of all clusters.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.evaluation.policies.policy_names import RETRIEVER, RETRIEVER_NOVEL
from models.evaluation.statistics.ranking import UNRANKED
from models.evaluation.statistics.ranking_statistics import SHOWN, RankSums, rank_sums
from models.interests.alignment import ABLATIONS, PARTS
from transforms import schemas as col
from transforms.evaluation.load_policies import Policies, PolicySources, WithPolicies
from transforms.evaluation.score_policies import Resamples, sums_of_scores
from transforms.retrieval.align import Weights, aligned_scores
from transforms.tables.combiners import SumFn
from transforms.transitions.held_out_cases import CASES, DrawCases, known_clusters
from transforms.workers.saved_model import HistoryModel, in_batches

DRAWN, ITEMS = "drawn", "items"
TOP = 10  # items of the retriever among which the user's item is a hit
_WITHIN, _ANYWHERE = "within", "anywhere"  # columns of the retriever's items
_PARTS, _LISTED, _ABLE = "parts", "candidates", "recommendable"  # of `score_clusters`, flat
_ANSWERED = pa.schema(
    [
        *CASES,
        *(pa.field(name, pa.list_(pa.string())) for name in (_WITHIN, _ANYWHERE)),
        pa.field(_PARTS, pa.list_(pa.float32())),
        *(pa.field(name, pa.list_(pa.bool_())) for name in (_LISTED, _ABLE)),
    ]
)


@dataclass(frozen=True, eq=False)
class ItemSums:
    """Sums over the sampled transitions, [1 + B]; B resamples, the observed value first."""

    examples: np.ndarray  # transitions
    hits: np.ndarray  # transitions whose item is among the retriever's first of the cluster
    popular_hits: np.ndarray  # ... among as many of the cluster's most popular items

    def __add__(self, other: "ItemSums") -> "ItemSums":
        mine, others = vars(self), vars(other)
        return ItemSums(**{name: mine[name] + others[name] for name in mine})


@dataclass(eq=False)
class ScoreItems(beam.PTransform):
    """SEQUENCES of test users -> DRAWN and ITEMS, sums over transitions sampled by hash.

    DRAWN are (policy, RankSums), ITEMS is one ItemSums, or None.
    """

    sources: PolicySources
    weight: beam.PCollection
    saved_model: str
    alignment: Weights  # of the policies that score clusters with it
    item_clusters: beam.PCollection
    popular: beam.PCollection  # of one array, `popular_items`
    size: int  # M
    cut: int | None
    count: int  # maximum of sampled transitions
    resamples: Resamples

    def expand(self, sequences: beam.PCollection[pa.Table]) -> Any:
        from transforms.workers.batch_inference import BatchHandler, RunInference

        saved_model, size = self.saved_model, self.size
        secret = secrets.token_hex(16)
        handler = BatchHandler(
            lambda: _Retriever(saved_model, size, secret),
            lambda model, cases: model.ask(cases),
        )
        item_clusters = beam.pvalue.AsSingleton(self.item_clusters)
        scored = (
            sequences
            | DrawCases(self.item_clusters, self.cut, self.resamples.seed, self.count)
            | "Ask" >> RunInference(handler).with_output_types(pa.Table)
            | "Score"
            >> beam.ParDo(
                WithPolicies(self.sources, self._score),
                item_clusters,
                beam.pvalue.AsSingleton(self.popular),
                beam.pvalue.AsSingleton(self.weight),
            ).with_outputs(ITEMS, main=DRAWN)
        )
        return {
            DRAWN: scored[DRAWN] | "AddRanks" >> beam.CombinePerKey(SumFn()),
            ITEMS: scored[ITEMS] | "AddItems" >> beam.CombineGlobally(SumFn()),
        }

    def _score(
        self,
        policies: Policies,
        answered: pa.Table,
        item_clusters: tuple[pa.Array, np.ndarray],
        popular: np.ndarray,
        weight: float,
    ) -> Iterator[Any]:
        if not answered.num_rows:
            return
        weights = self.resamples.weights(answered[col.USER_ID].combine_chunks())
        drawn = Drawn(answered, *item_clusters, weights, self.size)
        yield RETRIEVER, drawn.ranks_of_retriever()
        for name, scores in scores_by_policy(policies, answered, weight, self.alignment):
            yield name, drawn.ranks_of(scores)
        yield beam.pvalue.TaggedOutput(ITEMS, drawn.items(popular))


def scores_by_policy(
    policies: Policies, answered: pa.Table, weight: float, alignment: Weights
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the scores [n, M] of every policy that scores clusters, for `_ANSWERED` rows."""
    pair = tuple(answered[name].to_numpy() for name in (col.C1, col.C2))
    for name, policy in policies.by_name(weight).items():
        yield name, policy.scores(*pair)
    recent = pc.list_flatten(answered[col.RECENT]).to_numpy().reshape(answered.num_rows, -1)
    for name, pooled in policies.pooled.items():
        yield name, pooled.scores(recent)
    shape = (answered.num_rows, policies.size)
    able, listed = (_flat(answered[name]).reshape(shape) for name in (_ABLE, _LISTED))
    parts = _flat(answered[_PARTS]).reshape(*shape, len(PARTS))
    for name, weights in alignment.items():
        among = able & listed if "table" in ABLATIONS[name] else able
        yield name, aligned_scores(parts, among, weights)
    only_user = np.array([part == "user" for part in PARTS], np.float64)
    yield RETRIEVER_NOVEL, aligned_scores(parts, able, only_user)


def _flat(lists: pa.ChunkedArray) -> np.ndarray:
    return pc.list_flatten(lists).to_numpy()


class _Retriever:
    """The SavedModel, asked for items of two choices of clusters, and for scores of clusters."""

    def __init__(self, saved_model: str, size: int, secret: str) -> None:
        self._model = HistoryModel("evaluate", saved_model, secret)
        self._every = np.arange(size, dtype=np.int32)

    def ask(self, cases: pa.Table) -> pa.Table:
        """Append to CASES the items of the novel cluster and of any, best first, and scores."""
        batches = in_batches(cases, col.USER_ID, col.NOVEL)
        return pa.concat_tables(
            [_ANSWERED.empty_table(), *(self._batch(*batch) for batch in batches)]
        )

    def _batch(self, cases: pa.Table, history: np.ndarray) -> pa.Table:
        clusters = {
            _WITHIN: cases[col.NOVEL].to_numpy()[:, None],
            _ANYWHERE: np.tile(self._every, (cases.num_rows, 1)),
        }
        for name, asked in clusters.items():
            inputs = {"history": history, "cluster_ids": asked}
            answer = self._model.answer("recommend", inputs)["item_ids"]
            items = [[item.decode() for item in row if item] for row in answer.tolist()]
            field = _ANSWERED.field(name)
            cases = cases.append_column(field, pa.array(items, field.type))
        scored = self._model.answer("score_clusters", {"history": history})
        for name in (_PARTS, _LISTED, _ABLE):
            field, rows = _ANSWERED.field(name), scored[name].reshape(cases.num_rows, -1)
            cases = cases.append_column(field, pa.array(list(rows), field.type))
        return cases


class Drawn:
    """CASES with the retriever's items, and the users' weights [n, 1 + B]."""

    def __init__(
        self,
        answered: pa.Table,
        item_ids: pa.Array,
        clusters: np.ndarray,
        weights: np.ndarray,
        size: int,
    ) -> None:
        self._weights = weights
        self._novel, self._item = (answered[name].to_numpy() for name in (col.NOVEL, col.ITEM))
        self._known = known_clusters(answered, size)
        self._within = _positions(answered[_WITHIN], item_ids)
        at = _positions(answered[_ANYWHERE], item_ids)
        self._clusters = np.where(at >= 0, clusters[at], -1)  # [n, items]

    def ranks_of_retriever(self) -> RankSums:
        """Add up the retriever, asked for any items, as a policy.

        It ranks clusters in the order of their first items, and shows the clusters of the first
        items.
        """
        rank = np.full(len(self._novel), UNRANKED)
        named = self._clusters
        for row, found in enumerate(named.tolist()):
            order = list(dict.fromkeys(found))
            if self._novel[row] in order:
                rank[row] = order.index(self._novel[row])
        pad = ((0, 0), (0, max(0, SHOWN - named.shape[1])))
        shown = np.pad(named, pad, constant_values=-1)[:, :SHOWN]
        number = np.arange(len(rank))
        return rank_sums(self._weights, number, self._novel, rank, shown, self._known)

    def ranks_of(self, scores: np.ndarray) -> RankSums:
        """Add up a policy that scores clusters, [n, M]."""
        number = np.arange(len(scores))
        return sums_of_scores(scores, self._known, self._novel, number, self._weights)

    def items(self, popular: np.ndarray) -> ItemSums:
        """Add up the items of the novel cluster.

        `popular` is [M, top], -1 pads; as many of the retriever's items count.
        """
        top = popular.shape[1]
        hit = np.any(self._within[:, :top] == self._item[:, None], axis=1)
        popular_hit = np.any(popular[self._novel] == self._item[:, None], axis=1)
        flags = (np.ones(len(hit), bool), hit, popular_hit)
        return ItemSums(*(one.astype(np.int64) @ self._weights for one in flags))


def _positions(lists: pa.ChunkedArray, item_ids: pa.Array) -> np.ndarray:
    """Return the positions of item ids in the catalogue, [n, longest]; -1 pads."""
    lengths = pc.list_value_length(lists).to_numpy()
    there = np.arange(lengths.max(initial=0)) < lengths[:, None]
    positions = np.full(there.shape, -1, np.int32)
    positions[there] = pc.index_in(pc.list_flatten(lists), value_set=item_ids).to_numpy()
    return positions


def popular_items(
    engagements: np.ndarray,
    clusters: np.ndarray,
    eligible: np.ndarray,
    size: int,
    count: int,
) -> np.ndarray:
    """Return the most engaged-with eligible items of each cluster, [M, count], -1 pads.

    `engagements`, `clusters` and `eligible` are [items] in the order of item ids, which breaks
    ties.
    """
    order = np.lexsort((-engagements, clusters))
    order = order[eligible[order]]
    of_cluster = clusters[order]
    place = np.arange(len(order)) - np.searchsorted(of_cluster, of_cluster)
    found = np.full((size, count), -1, np.int32)
    first = place < count
    found[of_cluster[first], place[first]] = order[first]
    return found
