"""Writes `report/` from what was measured."""

import json
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from transforms import files
from transforms import schemas as col
from transforms.errors import InputError
from transforms.evaluation import RANKS, RELIABILITY, USERS
from transforms.evaluation_metrics import Measured
from transforms.manifest import Tally

METRICS = "metrics.json"
TITLES = 5  # items of each cluster that the page names


@dataclass(eq=False)
class WriteReport(beam.PTransform):
    """Sums -> the files of the report.

    Takes a dict: RANKS, RELIABILITY and USERS of ScorePolicies; `wins` of CoverPairs; `items` of
    ScoreItems; `weight` of ChoosePriorWeight; `train` [M], the training users' transitions to each
    cluster; `popular` [M, k], the most popular items of each cluster; `pair_users` [M * M]; the
    last ones are single elements.

    Attributes
    ----------
    folder
        Where it goes.
    descriptions
        [M] of the clusters.
    clusters
        Their folder.
    facts
        What metrics.json says that was known before.
    min_users
        Counts of fewer users are not told.
    """

    folder: str
    descriptions: tuple[str, ...]
    clusters: str
    facts: dict[str, Any]
    min_users: int

    def expand(self, measured: Any) -> beam.PCollection[Tally]:
        single = ("items", USERS, "weight", "train", "popular", "pair_users")
        return (
            measured["weight"].pipeline
            | "Once" >> beam.Create([None])
            | "Write"
            >> beam.Map(
                self._write,
                *(beam.pvalue.AsDict(measured[name]) for name in (RANKS, RELIABILITY, "wins")),
                *(beam.pvalue.AsSingleton(measured[name]) for name in single),
            )
        )

    def _write(
        self,
        _: None,
        ranks: dict[str, Any],
        reliability: dict[str, Any],
        wins: dict[str, np.ndarray],
        items: Any,
        users: int,
        weight: float,
        train: np.ndarray,
        popular: np.ndarray,
        pair_users: np.ndarray,
    ) -> Tally:
        if not ranks:
            raise InputError(
                "no transitions of test users to evaluate on: more users are needed, each with "
                "engagements in at least two clusters; see --test_share and --cut of "
                "mine_transitions"
            )
        measured = Measured(ranks, wins, reliability, items, users, train, weight)
        metrics = {**self.facts, **measured.metrics(list(self.descriptions), self.min_users)}
        Metrics.counter("evaluate", "policies").inc(len(metrics["policies"]))
        content = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
        return Tally(
            written=len(metrics["policies"]),
            files=(files.write_record(self.folder, METRICS, content.encode()),),
        )


def read_catalogue(clusters: str) -> tuple[list[str], np.ndarray]:
    """Return title (or id, without one) and eligibility of the items, in the order of their ids."""
    table = files.read_parquet(files.join(clusters, "catalogue", "*.parquet"), col.CATALOGUE)
    table = table.sort_by(col.ITEM_ID)
    titles = [
        title or item_id
        for title, item_id in zip(
            table[col.TITLE].to_pylist(), table[col.ITEM_ID].to_pylist(), strict=True
        )
    ]
    return titles, table[col.ELIGIBLE].combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
