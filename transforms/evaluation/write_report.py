"""Writes `report/` from the sums of an evaluation."""

import json
import logging
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from models.evaluation.gates import GateThresholds, gates
from models.evaluation.table_diff import new_ids, table_diff
from models.interests.novelty_table import NoveltyTable
from transforms import schemas as col
from transforms.clusters.read_clusters import read_descriptions, read_titles
from transforms.errors import InputError
from transforms.evaluation.metrics import Measured, suppress_small, user_coverage
from transforms.evaluation.report.data import ReportData
from transforms.evaluation.score_items import DRAWN
from transforms.evaluation.score_policies import RANKS, RELIABILITY
from transforms.language.read_novelty_table import read_novelty_table
from transforms.storage import files
from transforms.storage.manifest import RowCounts

log = logging.getLogger("interest-explorer")

METRICS, PAGE = "metrics.json", "index.html"
_VERDICT = {True: "passed", False: "FAILED"}
TITLES = 5  # items of each cluster on the page


@dataclass(frozen=True)
class PreviousTable:
    """The novelty table that ours is compared with."""

    clusters: str
    level: int
    table: str
    mapping: str | None  # file of CLUSTER_MAPPING; None if equal ids and descriptions match

    def diff(self, now: NoveltyTable) -> dict[str, Any]:
        """Return `table_diff` to a newer table."""
        before = read_novelty_table(self.table, read_descriptions(self.clusters, self.level))
        mapping = self.mapping and files.read_parquet(self.mapping, col.CLUSTER_MAPPING)
        return table_diff(before, now, new_ids(before.descriptions, now.descriptions, mapping))


@dataclass(eq=False)
class WriteReport(beam.PTransform):
    """The sums of an evaluation -> the files of the report.

    Takes a dict of PCollections: RANKS, RELIABILITY and USERS of ScorePolicies; `wins` of
    CoverPairs; DRAWN and ITEMS of ScoreItems; `weight` of ChoosePriorWeight; `train` [M], the
    transitions of training users to each cluster; `popular` [M, top] of ScoreItems; `pair_users`
    [M * M]; `simulation` of Simulate. Those not keyed by policy have one element.
    """

    folder: str
    descriptions: tuple[str, ...]
    clusters: str
    table: str
    previous: PreviousTable | None
    thresholds: GateThresholds
    run_metadata: dict[str, Any]  # entries of metrics.json known at launch
    min_users: int  # counts of fewer users are suppressed

    def expand(self, measured: Any) -> beam.PCollection[RowCounts]:
        by_name = (RANKS, RELIABILITY, "wins", DRAWN)
        sides = {
            name: (beam.pvalue.AsDict if name in by_name else beam.pvalue.AsSingleton)(found)
            for name, found in measured.items()
        }
        return (
            measured["weight"].pipeline
            | "Once" >> beam.Create([None])
            | "Write" >> beam.Map(self._write, **sides)
        )

    def _write(
        self,
        _: None,
        *,
        weight: float,
        popular: np.ndarray,
        pair_users: np.ndarray,
        simulation: dict[str, Any] | None,
        **sums: Any,
    ) -> RowCounts:
        from transforms.evaluation.report.page import report_page
        from transforms.evaluation.report.sentences import summary_sentences

        if not sums[RANKS]:
            raise InputError(
                "no transitions of test users to evaluate: provide more users with engagements "
                "in at least two clusters; see --test_share of mine_transitions"
            )
        measured = Measured(**sums, top=popular.shape[1], prior_weight=weight)
        table = read_novelty_table(self.table, self.descriptions)
        metrics = {
            **self.run_metadata,
            **measured.metrics(list(self.descriptions), self.min_users),
            "simulation": simulation
            and {**simulation, "users": suppress_small(simulation["users"], self.min_users)},
            "user_coverage": round(user_coverage(table, pair_users), 6),
            "diff": self.previous and self.previous.diff(table),
        }
        metrics["gates"] = gates(metrics, self.thresholds)
        metrics["passed"] = all(gate["passed"] for gate in metrics["gates"].values())
        for name, gate in metrics["gates"].items():
            log.info("evaluate: gate %s %s: %s", name, _VERDICT[gate["passed"]], gate["why"])
        Metrics.counter(WriteReport, "policies").inc(len(metrics["policies"]))
        metrics["summary"] = summary_sentences(metrics)
        titles = read_titles(self.clusters)
        data = ReportData(
            metrics=metrics,
            table=table,
            items=[[titles[i] for i in row[:TITLES] if i >= 0] for row in popular.tolist()],
            pair_users=pair_users,
            min_users=self.min_users,
        )
        content = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
        return RowCounts(
            written=len(metrics["policies"]),
            files=(
                files.write_record(self.folder, METRICS, content.encode()),
                files.write_record(self.folder, PAGE, report_page(data).encode()),
            ),
        )
