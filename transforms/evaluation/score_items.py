"""Scores the retriever and our policies on sampled test transitions.

The retriever is asked for items of the user's novel cluster, of all clusters new to the user, and
of any cluster.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.evaluation.policies.policy_names import POOLED, PRIOR, RETRIEVER, RETRIEVER_NOVEL, TABLE
from models.evaluation.statistics.ranking import UNRANKED
from models.evaluation.statistics.ranking_statistics import SHOWN, RankSums, rank_sums
from transforms import schemas as col
from transforms.evaluation.held_out_transitions import TEST_CASES, draw_test_cases, lowest_hashes
from transforms.evaluation.load_policies import Policies, PolicySources, WithPolicies
from transforms.evaluation.score_policies import Resamples, sums_of_scores
from transforms.tables.combiners import SumFn
from transforms.workers.saved_model import HistoryModel, in_batches

DRAWN, ITEMS = "drawn", "items"
TOP = 10  # items of the retriever among which the user's item is a hit
_WITHIN, _NEW, _ANYWHERE = "within", "new", "anywhere"  # columns of the retriever's items
_ITEM_LISTS = pa.list_(pa.string())
_ANSWERED = pa.schema(
    [*TEST_CASES, *(pa.field(name, _ITEM_LISTS) for name in (_WITHIN, _NEW, _ANYWHERE))]
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

    DRAWN are (policy, RankSums) of the retriever, of the retriever restricted to clusters new to
    the user, and of ours; ITEMS is one ItemSums, or None.
    """

    sources: PolicySources
    weight: beam.PCollection
    saved_model: str
    item_clusters: beam.PCollection
    popular: beam.PCollection  # of one array, `popular_items`
    size: int  # M
    cut: int | None
    count: int  # maximum of sampled transitions
    resamples: Resamples

    def expand(self, sequences: beam.PCollection[pa.Table]) -> Any:
        from transforms.workers.batch_inference import BatchHandler, RunInference

        saved_model, size, secret = self.saved_model, self.size, secrets.token_hex(16)
        blocked = self.sources.blocked
        handler = BatchHandler(
            lambda: _Retriever(saved_model, size, blocked, secret),
            lambda model, cases: model.ask(cases),
        )
        item_clusters = beam.pvalue.AsSingleton(self.item_clusters)
        cut, seed, count = self.cut, self.resamples.seed, self.count
        highest = (
            sequences
            | "Hashes"
            >> beam.Map(
                lambda part, items: lowest_hashes(part, items[1], cut, seed, count), item_clusters
            )
            | "Lowest" >> beam.CombineGlobally(lambda parts: _lowest(parts, count))
            | "Highest" >> beam.Map(lambda hashes: int(hashes[-1]) if len(hashes) else 0)
        )
        scored = (
            sequences
            | "Draw"
            >> beam.Map(
                lambda part, items, highest: draw_test_cases(
                    part, items[1], items[0], cut, seed, highest
                ),
                item_clusters,
                beam.pvalue.AsSingleton(highest),
            ).with_output_types(pa.Table)
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
        yield RETRIEVER, drawn.ranks_of_retriever(_ANYWHERE)
        yield RETRIEVER_NOVEL, drawn.ranks_of_retriever(_NEW)
        pair = tuple(answered[name].to_numpy() for name in (col.C1, col.C2))
        yield TABLE, drawn.ranks_of(policies.tables[TABLE].scores(*pair))
        yield PRIOR, drawn.ranks_of(policies.prior(weight).scores(*pair))
        recent = pc.list_flatten(answered[col.RECENT]).to_numpy().reshape(len(pair[0]), -1)
        yield POOLED, drawn.ranks_of(policies.pooled[POOLED].scores(recent))
        yield beam.pvalue.TaggedOutput(ITEMS, drawn.items(popular))


def _lowest(parts: Any, count: int) -> np.ndarray:
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))[:count]


class _Retriever:
    """The SavedModel, asked for items of three choices of clusters."""

    def __init__(self, saved_model: str, size: int, blocked: tuple[int, ...], secret: str) -> None:
        self._model = HistoryModel("evaluate", saved_model, secret)
        self._every = np.arange(size, dtype=np.int32)
        self._allowed = np.where(np.isin(self._every, blocked), -1, self._every)

    def ask(self, cases: pa.Table) -> pa.Table:
        """Append to TEST_CASES the items of the novel cluster, of new ones and of any, best first.

        New ones exclude blocked clusters, as for all policies that rank new clusters.
        """
        batches = in_batches(cases, col.USER_ID, col.NOVEL)
        return pa.concat_tables(
            [_ANSWERED.empty_table(), *(self._batch(*batch) for batch in batches)]
        )

    def _batch(self, cases: pa.Table, history: np.ndarray) -> pa.Table:
        clusters = {
            _WITHIN: cases[col.NOVEL].to_numpy()[:, None],
            _NEW: np.where(known_clusters(cases, len(self._every)), -1, self._allowed),
            _ANYWHERE: np.tile(self._every, (cases.num_rows, 1)),
        }
        for name, asked in clusters.items():
            inputs = {"history": history, "cluster_ids": asked}
            answer = self._model.answer("recommend", inputs)["item_ids"]
            items = [[item.decode() for item in row if item] for row in answer.tolist()]
            cases = cases.append_column(_ANSWERED.field(name), pa.array(items, _ITEM_LISTS))
        return cases


def known_clusters(cases: pa.Table, size: int) -> np.ndarray:
    """Return which of M = `size` clusters the users of TEST_CASES knew, [n, M]."""
    lists = cases[col.KNOWN]
    known = np.zeros((cases.num_rows, size), bool)
    rows = np.repeat(np.arange(cases.num_rows), pc.list_value_length(lists).to_numpy())
    known[rows, pc.list_flatten(lists).to_numpy()] = True
    return known


class Drawn:
    """TEST_CASES with the retriever's items, and the users' weights [n, 1 + B]."""

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
        self._clusters = {}  # of the items in the other two columns, [n, items]
        for name in (_NEW, _ANYWHERE):
            at = _positions(answered[name], item_ids)
            self._clusters[name] = np.where(at >= 0, clusters[at], -1)

    def ranks_of_retriever(self, column: str) -> RankSums:
        """Add up the retriever as a policy.

        It ranks clusters in the order of their first items in a column, and shows the clusters of
        the first items.
        """
        rank = np.full(len(self._novel), UNRANKED)
        named = self._clusters[column]
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
