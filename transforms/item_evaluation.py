"""The retriever on transitions that were drawn: its items of the new cluster, and of any,
and our policies on the same transitions.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.evaluation.policy import Policy
from models.evaluation.rank_sums import SHOWN, RankSums, rank_sums
from models.evaluation.ranking import UNRANKED, best, ranks
from transforms import schemas as col
from transforms.evaluation import AddUp, Resamples
from transforms.folders import local_copy
from transforms.held_out import lowest_hashes, opened_items
from transforms.policies import (
    PRIOR,
    RETRIEVER,
    RETRIEVER_NOVEL,
    TABLE,
    Policies,
    PolicySources,
    WithPolicies,
)
from transforms.recommend import batches, padded
from transforms.shared_process import SharedProcess

DRAWN, ITEMS = "drawn", "items"
TOP = 10  # items among which the one that the user took should be
_WITHIN, _ANYWHERE = "within", "anywhere"
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class ItemSums:
    """Sums over drawn transitions; B resamples, in the first place what was observed.

    Attributes
    ----------
    examples, hits, popular_hits
        [1 + B] int64: transitions, those whose item is among the first TOP of its cluster for the
        retriever, and those whose item is among the cluster's TOP most popular ones.
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

    DRAWN are (policy, RankSums) of the retriever, of the one that leaves out the two latest
    interests, and of ours on the same transitions; ITEMS is one ItemSums, None without any.

    Attributes
    ----------
    sources, weight
        As of ScorePolicies.
    saved_model
        Folder of the retriever.
    catalogue
        A PCollection of one tuple, the ids and the clusters of the items.
    popular
        A PCollection of one array [M, at least TOP], the most popular items of each cluster, -1
        pads.
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
        from transforms.inference import BatchHandler, RunInference

        saved_model, size, secret = self.saved_model, self.size, secrets.token_hex(16)
        handler = BatchHandler(
            lambda: _Retriever(saved_model, size, secret), lambda model, opened: model.ask(opened)
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
                lambda part, items, highest: opened_items(
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
            DRAWN: scored[DRAWN] | "AddRanks" >> beam.CombinePerKey(AddUp()),
            ITEMS: scored[ITEMS] | "AddItems" >> beam.CombineGlobally(AddUp()),
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
        yield RETRIEVER, drawn.ranks_of_retriever(())
        yield RETRIEVER_NOVEL, drawn.ranks_of_retriever((col.C1, col.C2))
        yield TABLE, drawn.ranks_of(policies.tables[TABLE])
        yield PRIOR, drawn.ranks_of(policies.prior(weight))
        yield beam.pvalue.TaggedOutput(ITEMS, drawn.items(popular))


def _lowest(parts: Any, count: int) -> np.ndarray:
    return np.sort(np.concatenate([np.empty(0, np.int64), *parts]))[:count]


class _Retriever:
    """The SavedModel, which the workers of a machine share."""

    def __init__(self, saved_model: str, size: int, secret: str) -> None:
        factory, arguments = (
            "models.retrieval.saved_model:SavedModel",
            {"path": local_copy(saved_model)},
        )
        self._model = SharedProcess("evaluate", "retriever", factory, arguments, secret)
        self._every = np.arange(size, dtype=np.int32)

    def ask(self, opened: pa.Table) -> pa.Table:
        """Append to OPENED the items of the novel cluster, and those of any, best first."""
        by_length = opened.append_column(
            "length", pc.list_value_length(opened[col.ITEM_IDS])
        ).sort_by([("length", "ascending"), (col.USER_ID, "ascending"), (col.NOVEL, "ascending")])
        within: list[list[str]] = []
        anywhere: list[list[str]] = []
        for start, stop in batches(by_length["length"].to_numpy()):
            some = by_length.slice(start, stop - start).combine_chunks()
            history = padded(some[col.ITEM_IDS].combine_chunks())
            for found, clusters in (
                (within, some[col.NOVEL].to_numpy()[:, None]),
                (anywhere, np.repeat(self._every[None], some.num_rows, axis=0)),
            ):
                inputs = {"history": history, "cluster_ids": clusters}
                answer = self._model.call("answer", "recommend", inputs)["item_ids"]
                found += [[item.decode() for item in row if item] for row in answer.tolist()]
        lists = pa.list_(pa.string())
        return by_length.append_column(_WITHIN, pa.array(within, lists)).append_column(
            _ANYWHERE, pa.array(anywhere, lists)
        )


class Drawn:
    """Drawn transitions with what the retriever answered, to be added up.

    Parameters
    ----------
    answered
        [n] OPENED with the retriever's items.
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
        self._answered, self._weights, self._size = answered, weights, size
        self._novel, self._item = (answered[name].to_numpy() for name in (col.NOVEL, col.ITEM))
        self._within, anywhere = (
            _positions(answered[name], item_ids) for name in (_WITHIN, _ANYWHERE)
        )
        self._named = np.where(anywhere >= 0, clusters[anywhere], _UNKNOWN)  # [n, items]
        self._histories = [
            clusters[np.array(items, np.int64)] for items in answered[col.ITEMS_OF_USER].to_pylist()
        ]

    def ranks_of_retriever(self, left_out: Sequence[str]) -> RankSums:
        """Add up the retriever as a policy.

        It ranks clusters in the order in which its items name them, but for those of the columns
        that are left out, and shows those of its first items.
        """
        rank = np.full(len(self._novel), UNRANKED)
        winner = np.full(len(self._novel), _UNKNOWN)
        apart = [self._answered[name].to_pylist() for name in left_out]
        for row, found in enumerate(self._named.tolist()):
            not_these = {_UNKNOWN, *(column[row] for column in apart)}
            order = [one for one in dict.fromkeys(found) if one not in not_these]
            winner[row] = order[0] if order else _UNKNOWN
            if self._novel[row] in order:
                rank[row] = order.index(self._novel[row])
        shown = _widened(self._named, SHOWN)[:, :SHOWN]
        return self._sums(rank, shown, winner)

    def ranks_of(self, policy: Policy) -> RankSums:
        """Add up a policy that scores clusters."""
        scores = policy.scores(*(self._answered[name].to_numpy() for name in (col.C1, col.C2)))
        shown = best(scores, min(SHOWN, self._size))
        return self._sums(ranks(scores, self._novel), shown, shown[:, 0])

    def _sums(self, rank: np.ndarray, shown: np.ndarray, winner: np.ndarray) -> RankSums:
        known = np.array(list(map(np.isin, shown, self._histories)))
        number = np.arange(len(rank))
        return rank_sums(self._weights, number, self._novel, rank, shown, known, winner, self._size)

    def items(self, popular: np.ndarray) -> ItemSums:
        """Add up the items within the new cluster.

        Parameters
        ----------
        popular
            [M, at least TOP] items, -1 pads.
        """
        hit = np.any(self._within[:, :TOP] == self._item[:, None], axis=1)
        popular_hit = np.any(popular[self._novel][:, :TOP] == self._item[:, None], axis=1)
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
    count: int = TOP,
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
