"""Trains the retriever on the users' sequences and exports the SavedModel."""

import logging
import math
import shutil
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.evaluation.policies.policy_names import ALIGNED
from models.interests.alignment import PARTS
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever_config import RetrieverConfig
from transforms import schemas as col
from transforms.clusters.read_clusters import read_eligible, read_item_clusters, read_item_features
from transforms.errors import as_input_error
from transforms.language.read_novelty_table import read_novelty_table
from transforms.retrieval.align import align, write_alignment
from transforms.retrieval.retriever_weights import HISTORY, WEIGHTS, read_weights
from transforms.storage import files
from transforms.storage.files import FileRecord
from transforms.storage.folders import Scratch, publish, scratch
from transforms.storage.manifest import RowCounts
from transforms.transitions.held_out_cases import CASES
from transforms.transitions.splits import SplitSpec
from transforms.workers.progress import LogThrottle

if TYPE_CHECKING:
    from models.retrieval.retriever import RetrieverModel
    from models.retrieval.serving.serving_module import ServingModule
    from models.retrieval.training.training_loop import Step

log = logging.getLogger("interest-explorer")

# Patterns of the names of all files of a SavedModel.
SAVED_MODEL_FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.*", "assets/*")
_LOG_SECONDS = 10.0


@dataclass(eq=False)
class TrainRetriever(beam.PTransform):
    """(Paths of all shards of sequences, CASES) -> the SavedModel and what it is made of.

    The users of the CASES are not in the shards: the aligned score is fitted on them.
    """

    clusters: str  # a folder
    level: int
    descriptions: tuple[str, ...]
    novelty_table: str  # folder of the table that is packed into the SavedModel
    blocked: tuple[int, ...]
    folder: str
    unfinished: str  # folder for checkpoints until the model is published
    config: RetrieverConfig
    split: SplitSpec  # by which the sequences are chosen
    k: int  # items in an answer
    candidates: int  # clusters that the table proposes for a user
    refresh: bool  # take the weights in `folder` in place of a training
    hints: dict[str, str] = field(default_factory=dict)  # resource hints of the worker

    def expand(self, inputs: Any) -> beam.PCollection[RowCounts]:
        shards, cases = inputs
        train = beam.Map(self._train, beam.pvalue.AsList(shards), beam.pvalue.AsList(cases))
        return (
            shards.pipeline
            | "Once" >> beam.Create([None])
            | "Train" >> train.with_resource_hints(**self.hints)
        )

    def _train(self, _: None, shards: list[str], cases: list[pa.Table]) -> RowCounts:
        from models.retrieval.serving.serving_module import ServingModule, export_saved_model

        catalogue = self._catalogue()
        log.info("train_retrieval: %d shards, %d items", len(shards), len(catalogue.item_ids))
        with scratch(self.unfinished) as work:
            saved_model = work.path / "saved_model"
            shutil.rmtree(saved_model, ignore_errors=True)  # of a killed run
            with as_input_error():
                paths = work.bring(sorted(shards), "sequences")
                if self.refresh:
                    model = self._refreshed(catalogue, paths)
                else:
                    model = self._trained(catalogue, paths, work)
                table = read_novelty_table(self.novelty_table, self.descriptions, self.blocked)
                module = ServingModule(model, catalogue, table, self.k, self.candidates)
                aligned = self._aligned(module, cases)
                export_saved_model(module, saved_model)
            exported = publish(str(saved_model), files.join(self.folder, "saved_model"))
        trained = tuple(
            files.record(name, files.read_bytes(files.join(self.folder, name)))
            for name in (HISTORY, WEIGHTS)
        )
        nested = tuple(replace(file, path=f"saved_model/{file.path}") for file in exported)
        epochs = files.read_parquet(files.join(self.folder, HISTORY), col.RETRIEVAL_HISTORY)
        return RowCounts(written=epochs.num_rows, files=(*trained, aligned, *nested))

    def _trained(self, catalogue: Catalogue, shards: list[str], work: Scratch) -> "RetrieverModel":
        """Train, and write the history and the weights."""
        from models.retrieval.trained_weights import TrainedWeights
        from models.retrieval.training.training_loop import Callbacks, train_retriever

        reporter = _Reporter()
        callbacks = Callbacks(reporter.epoch, reporter.step, work.save)
        model, history = train_retriever(
            catalogue, shards, self.config, work.checkpoints, callbacks
        )
        rows = pa.Table.from_pylist(history, schema=col.RETRIEVAL_HISTORY)
        files.write_parquet(self.folder, HISTORY, rows)
        weights = TrainedWeights.of(model, catalogue, asdict(self.split))
        files.write_bytes(files.join(self.folder, WEIGHTS), weights.to_bytes())
        return model

    def _aligned(self, module: "ServingModule", cases: list[pa.Table]) -> FileRecord:
        """Fit the aligned score of the module, and write its weights."""
        joined = pa.concat_tables([CASES.empty_table(), *cases])
        weights = align(module, joined)
        module.alignment.assign(weights[ALIGNED])
        log.info(
            "train_retrieval: score of a new interest, fitted on %d transitions of held-out users: "
            "%s",
            joined.num_rows,
            " + ".join(f"{w:.2f} {part}" for part, w in zip(PARTS, weights[ALIGNED], strict=True)),
        )
        return write_alignment(self.folder, weights, joined.num_rows)

    def _refreshed(self, catalogue: Catalogue, shards: list[str]) -> "RetrieverModel":
        """Put the trained weights on today's items and their popularity."""
        from models.retrieval.item_statistics import ItemStatistics
        from models.retrieval.refresh import put_weights
        from models.retrieval.retriever import RetrieverModel
        from models.retrieval.training.sequence_shards import row_groups
        from models.retrieval.training.training_sequences import popularity, survey

        weights = read_weights(self.folder, self.config, self.split)
        groups = row_groups(shards, catalogue.vocabulary)
        items = len(catalogue.item_ids)
        found = survey(groups, items, validation_users=0)
        now = popularity(groups, items, replace(found, moments=found.moments[-1:]))
        log.info(
            "train_retrieval: the weights of the last training, %+d items since",
            items - len(weights.item_ids),
        )
        model = RetrieverModel(self.config, catalogue, ItemStatistics(found.counts, now.logs))
        put_weights(weights, catalogue, model)
        return model

    def _catalogue(self) -> Catalogue:
        item_ids, clusters = read_item_clusters(self.clusters, self.level)
        return Catalogue(
            np.array(item_ids.to_pylist(), object),
            clusters,
            read_eligible(self.clusters),
            read_item_features(self.clusters),
        )


class _Reporter:
    """Logs each epoch, and the progress within a long one."""

    def __init__(self) -> None:
        self._begun, self._line = time.monotonic(), LogThrottle(_LOG_SECONDS)
        self._steps = 0  # of this run: an earlier one may have done others
        self._step: Step | None = None

    def step(self, step: "Step") -> None:
        self._steps, self._step = self._steps + step.steps, step
        if self._line.is_due():
            self._log(step, f"step {step.done} of {step.total}, loss {step.loss:.3f}")

    def epoch(self, row: dict[str, Any]) -> None:
        self._line.restart()
        if self._step is not None:
            figures = {name: row[name] for name in ("loss", "HR@10", "NDCG@10")}
            known = [f"{name} {x:.3f}" for name, x in figures.items() if not math.isnan(x)]
            self._log(self._step, ", ".join(known))

    def _log(self, step: "Step", figures: str) -> None:
        most = "at most " if step.held_out else ""
        left = (step.epochs - step.epoch + 1) * step.total - step.done
        log.info(
            "train_retrieval: %sepoch %d of %s%d, %s, %s%.0f s left",
            "" if step.held_out else "on everything, ",
            *(step.epoch, most, step.epochs, figures, most),
            left * (time.monotonic() - self._begun) / self._steps,
        )
