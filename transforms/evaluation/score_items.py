"""The retriever on transitions that were drawn: its items of the cluster that the user took up, of
all that are new to the user, and of any; and our policies on the same transitions.
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
from transforms.evaluation.held_out_transitions import TEST_CASES, lowest_hashes, test_case_items
from transforms.evaluation.load_policies import Policies, PolicySources, WithPolicies
from transforms.evaluation.score_policies import Resamples, SumFn, sums_of_scores
from transforms.workers.saved_model import HistoryModel, in_batches

DRAWN, ITEMS = "drawn", "items"
TOP = 10  # items among which the one that the user took should be, where so many are answered
_WITHIN, _NEW, _ANYWHERE = "within", "new", "anywhere"  # columns of its items
_ITEM_LISTS = pa.list_(pa.string())
_ANSWERED = pa.schema(
    [*TEST_CASES, *(pa.field(name, _ITEM_LISTS) for name in (_WITHIN, _NEW, _ANYWHERE))]
)
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class ItemSums:
    """Sums over drawn transitions; B resamples, in the first place what was observed.

    Attributes
    ----------
    examples, hits, popular_hits
        [1 + B] int64: transitions, those whose item is among the first of its cluster for the
        retriever, and those whose item is among as many of the cluster's most popular ones.
    """

    examples: np.ndarray
    hits: np.ndarray
    popular_hits: np.ndarray

    def __add__(self, other: "ItemSums") -> "ItemSums":
        mine, others = vars(self), vars(other)
        return ItemSums(**{name: mine[name] + others[name] for name in mine})


@dataclass(eq=False)
class ScoreItems(beam.PTransform):
    """SEQUENCES of test users -> sums over transitions drawn by hash, by the names of the outputs.

    DRAWN are (policy, RankSums) of the retriever, of the one that is asked for items of clusters
    that are new to the user, and of ours on the same transitions; ITEMS is one ItemSums, None
    without any.

    Attributes
    ----------
    sources, weight
        As of ScorePolicies.
    saved_model
        Folder of the retriever.
    catalogue
        A PCollection of one tuple, the ids and the clusters of the items.
    popular
        A PCollection of one array, `popular_items`, as wide as the first items that count.
    size
        Clusters there are, M.
    cut
        As of ScorePolicies.
    count
        Transitions that are drawn, at most.
    resamples
        Of the users.
    """

    sources: PolicySources
    weight: beam.PCollection
    saved_model: str
    catalogue: beam.PCollection
    popular: beam.PCollection
    size: int
    cut: int | None
    count: int
    resamples: Resamples

    def expand(self, sequences: beam.PCollection[pa.Table]) -> Any:
        from transforms.workers.batch_inference import BatchHandler, RunInference

        saved_model, size, secret = self.saved_model, self.size, secrets.token_hex(16)
        blocked = self.sources.blocked
        handler = BatchHandler(
            lambda: _Retriever(saved_model, size, blocked, secret),
            lambda model, opened: model.ask(opened),
        )
        catalogue = beam.pvalue.AsSingleton(self.catalogue)
        cut, seed, count = self.cut, self.resamples.seed, self.count
        highest = (
            sequences
            | "Hashes"
            >> beam.Map(
                lambda part, items: lowest_hashes(part, items[1], cut, seed, count), catalogue
            )
            | "Lowest" >> beam.CombineGlobally(lambda parts: _lowest(parts, count))
            | "Highest" >> beam.Map(lambda hashes: int(hashes[-1]) if len(hashes) else 0)
        )
        scored = (
            sequences
            | "Draw"
            >> beam.Map(
                lambda part, items, highest: test_case_items(
                    part, items[1], items[0], cut, seed, highest
                ),
                catalogue,
                beam.pvalue.AsSingleton(highest),
            ).with_output_types(pa.Table)
            | "Ask" >> RunInference(handler).with_output_types(pa.Table)
            | "Score"
            >> beam.ParDo(
                WithPolicies(self.sources, self._score),
                catalogue,
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
        catalogue: tuple[pa.Array, np.ndarray],
        popular: np.ndarray,
        weight: float,
    ) -> Iterator[Any]:
        if not answered.num_rows:
            return
        weights = self.resamples.weights(answered[col.USER_ID].combine_chunks())
        drawn = Drawn(answered, *catalogue, weights, self.size)
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
    """The SavedModel, asked for the items of three choices of clusters."""

    def __init__(self, saved_model: str, size: int, blocked: tuple[int, ...], secret: str) -> None:
        self._model = HistoryModel("evaluate", saved_model, secret)
        self._every = np.arange(size, dtype=np.int32)
        self._allowed = np.where(np.isin(self._every, blocked), -1, self._every)

    def ask(self, opened: pa.Table) -> pa.Table:
        """Append to TEST_CASES the items of the novel cluster, of new ones and of any, best first.

        New ones are not blocked, as with all that ranks what is new.
        """
        batches = in_batches(opened, col.USER_ID, col.NOVEL)
        return pa.concat_tables(
            [_ANSWERED.empty_table(), *(self._batch(*batch) for batch in batches)]
        )

    def _batch(self, opened: pa.Table, history: np.ndarray) -> pa.Table:
        clusters = {
            _WITHIN: opened[col.NOVEL].to_numpy()[:, None],
            _NEW: np.where(known_clusters(opened, len(self._every)), -1, self._allowed),
            _ANYWHERE: np.tile(self._every, (opened.num_rows, 1)),
        }
        for name, asked in clusters.items():
            inputs = {"history": history, "cluster_ids": asked}
            answer = self._model.answer("recommend", inputs)["item_ids"]
            items = [[item.decode() for item in row if item] for row in answer.tolist()]
            opened = opened.append_column(_ANSWERED.field(name), pa.array(items, _ITEM_LISTS))
        return opened


def known_clusters(opened: pa.Table, size: int) -> np.ndarray:
    """Say which of M = `size` clusters the users of TEST_CASES knew, [n, M] bool."""
    lists = opened[col.KNOWN]
    known = np.zeros((opened.num_rows, size), bool)
    rows = np.repeat(np.arange(opened.num_rows), pc.list_value_length(lists).to_numpy())
    known[rows, pc.list_flatten(lists).to_numpy()] = True
    return known


class Drawn:
    """Drawn transitions with what the retriever answered, to be added up.

    Parameters
    ----------
    answered
        [n] TEST_CASES with the retriever's items.
    item_ids, clusters
        [items] of the catalogue.
    weights
        [n, 1 + B], of the user of each transition.
    size
        Clusters there are, M.
    """

    def __init__(
        self,
        answered: pa.Table,
        item_ids: pa.Array,
        clusters: np.ndarray,
        weights: np.ndarray,
        size: int,
    ) -> None:
        self._weights, self._size = weights, size
        self._novel, self._item = (answered[name].to_numpy() for name in (col.NOVEL, col.ITEM))
        self._known = known_clusters(answered, size)
        self._within = _positions(answered[_WITHIN], item_ids)
        # The clusters of the items of the other two, [n, items].
        self._named = {
            name: np.where(at >= 0, clusters[at], _UNKNOWN)
            for name in (_NEW, _ANYWHERE)
            for at in (_positions(answered[name], item_ids),)
        }

    def ranks_of_retriever(self, column: str) -> RankSums:
        """Add up the retriever as a policy.

        It ranks clusters in the order in which the items of a column name them, and shows those of
        the first items.
        """
        rank = np.full(len(self._novel), UNRANKED)
        named = self._named[column]
        for row, found in enumerate(named.tolist()):
            order = list(dict.fromkeys(found))
            if self._novel[row] in order:
                rank[row] = order.index(self._novel[row])
        shown = _widened(named, SHOWN)[:, :SHOWN]
        number = np.arange(len(rank))
        return rank_sums(
            *(self._weights, number, self._novel, rank),
            *(shown, self._known, shown[:, 0], self._size),
        )

    def ranks_of(self, scores: np.ndarray) -> RankSums:
        """Add up a policy that scores clusters, [n, M]."""
        number = np.arange(len(scores))
        return sums_of_scores(scores, self._known, self._novel, number, self._weights)

    def items(self, popular: np.ndarray) -> ItemSums:
        """Add up the items within the new cluster.

        Parameters
        ----------
        popular
            [M, top] items, -1 pads; as many of the retriever's count.
        """
        top = popular.shape[1]
        hit = np.any(self._within[:, :top] == self._item[:, None], axis=1)
        popular_hit = np.any(popular[self._novel] == self._item[:, None], axis=1)
        flags = (np.ones(len(hit), bool), hit, popular_hit)
        return ItemSums(*(one.astype(np.int64) @ self._weights for one in flags))


def _positions(lists: pa.ChunkedArray, item_ids: pa.Array) -> np.ndarray:
    """Return the positions of lists of item ids in the catalogue, [n, longest], -1 pads."""
    lengths = pc.list_value_length(lists).to_numpy()
    there = np.arange(lengths.max(initial=0)) < lengths[:, None]
    positions = np.full(there.shape, -1, np.int32)
    positions[there] = pc.index_in(pc.list_flatten(lists), value_set=item_ids).to_numpy()
    return positions


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    """Return values [n, k] with at least `width` columns; -1 in the new ones."""
    return np.pad(values, ((0, 0), (0, max(0, width - values.shape[1]))), constant_values=-1)


def popular_items(
    engagements: np.ndarray,
    clusters: np.ndarray,
    eligible: np.ndarray,
    size: int,
    count: int,
) -> np.ndarray:
    """Return the most engaged-with eligible items of each cluster, [M, count], -1 pads.

    Parameters
    ----------
    engagements, clusters, eligible
        [items] in the order of their ids, by which ties are broken.
    size
        Clusters there are, M.
    count
        Items of each, at most.
    """
    order = np.lexsort((-engagements, clusters))
    order = order[eligible[order]]
    of_cluster = clusters[order]
    place = np.arange(len(order)) - np.searchsorted(of_cluster, of_cluster)
    found = np.full((size, count), -1, np.int32)
    first = place < count
    found[of_cluster[first], place[first]] = order[first]
    return found
