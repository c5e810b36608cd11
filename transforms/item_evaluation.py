"""The retriever on transitions that were drawn: its items of the new cluster, and of any."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.evaluation.rank_sums import SHOWN, RankSums, rank_sums
from models.evaluation.ranking import UNRANKED
from transforms import schemas as col
from transforms.evaluation import AddUp, Resamples
from transforms.folders import local_copy
from transforms.held_out import lowest_hashes, opened_items
from transforms.recommend import batches, padded
from transforms.shared_process import SharedProcess

TOP = 10  # items among which the one that the user took should be
_WITHIN, _ANYWHERE = "within", "anywhere"
_UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class ItemSums:
    """Sums over drawn transitions; B resamples, in the first place what was observed.

    Attributes
    ----------
    retriever
        Of the policy that shows the retriever's items, of whatever cluster.
    retriever_novel
        Of the same one, made to leave out the two latest interests.
    examples, hits, popular_hits
        [1 + B] int64: transitions, those whose item is among the first TOP of its cluster for the
        retriever, and those whose item is among the cluster's TOP most popular ones.
    """

    retriever: RankSums
    retriever_novel: RankSums
    examples: np.ndarray
    hits: np.ndarray
    popular_hits: np.ndarray

    def __add__(self, other: "ItemSums") -> "ItemSums":
        mine, others = vars(self), vars(other)
        return ItemSums(**{name: mine[name] + others[name] for name in mine})


@dataclass(eq=False)
class ScoreItems(beam.PTransform):
    """SEQUENCES of test users -> the ItemSums of transitions drawn by hash; None without any.

    Attributes
    ----------
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

    saved_model: str
    catalogue: beam.PCollection
    popular: beam.PCollection
    size: int
    cut: int | None
    count: int
    resamples: Resamples

    def expand(self, sequences: beam.PCollection[pa.Table]) -> beam.PCollection[ItemSums | None]:
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
        return (
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
            | "Score" >> beam.FlatMap(self._score, catalogue, beam.pvalue.AsSingleton(self.popular))
            | "Add" >> beam.CombineGlobally(AddUp())
        )

    def _score(
        self,
        answered: pa.Table,
        catalogue: tuple[pa.Array, np.ndarray],
        popular: np.ndarray,
    ) -> Iterator[ItemSums]:
        if answered.num_rows:
            weights = self.resamples.weights(answered[col.USER_ID].combine_chunks())
            yield item_sums(answered, *catalogue, popular, weights, self.size)


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


def item_sums(
    answered: pa.Table,
    item_ids: pa.Array,
    clusters: np.ndarray,
    popular: np.ndarray,
    weights: np.ndarray,
    size: int,
) -> ItemSums:
    """Add up what the retriever did on transitions.

    As a policy it ranks clusters in the order in which its items name them, known or not, and shows
    those of its first items.

    Parameters
    ----------
    answered
        [n] OPENED with the retriever's items.
    item_ids, clusters
        [items] of the catalogue.
    popular
        [M, at least TOP] items, -1 pads.
    weights
        [n, 1 + B], of the user of each transition.
    size
        Clusters there are, M.
    """
    c1, c2, novel, item = (
        answered[name].to_numpy() for name in (col.C1, col.C2, col.NOVEL, col.ITEM)
    )
    within, anywhere = (_positions(answered[name], item_ids) for name in (_WITHIN, _ANYWHERE))
    named = np.where(anywhere >= 0, clusters[anywhere], _UNKNOWN)  # [n, items]
    shown = _widened(named, SHOWN)[:, :SHOWN]
    histories = answered[col.ITEMS_OF_USER].to_pylist()
    known = np.array(
        [
            np.isin(row, clusters[np.array(history, np.int64)])
            for row, history in zip(shown, histories, strict=True)
        ]
    )
    number = np.arange(len(novel))

    def ranked(left_out: np.ndarray) -> RankSums:
        """Rank by the items, but for the clusters [n, k] that are left out."""
        rank, winner = np.full(len(novel), UNRANKED), np.full(len(novel), _UNKNOWN)
        for row, (found, apart) in enumerate(zip(named.tolist(), left_out.tolist(), strict=True)):
            order = [one for one in dict.fromkeys(found) if one not in (_UNKNOWN, *apart)]
            winner[row] = order[0] if order else _UNKNOWN
            if novel[row] in order:
                rank[row] = order.index(novel[row])
        return rank_sums(weights, number, novel, rank, shown, known, winner, size)

    hit = np.any(within[:, :TOP] == item[:, None], axis=1)
    popular_hit = np.any(popular[novel][:, :TOP] == item[:, None], axis=1)
    return ItemSums(
        ranked(np.empty((len(novel), 0), np.int32)),
        ranked(np.column_stack([c1, c2])),
        *(flags.astype(np.int64) @ weights for flags in (number >= 0, hit, popular_hit)),
    )


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
