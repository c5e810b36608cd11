"""Fine-tunes the language model as one element on one worker."""

import logging
from dataclasses import asdict, dataclass, field

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.interests.follow_lift import FollowLift
from models.interests.pairs import unpair
from models.language.prompt import Prompts
from models.language.training.examples import Example
from models.language.training.finetune_config import FinetuneConfig
from models.language.training.finetuning import TrainingProgress, finetune
from models.language.training.output_head_fit import HeadTargets
from transforms import schemas as col
from transforms.errors import as_input_error
from transforms.storage import files
from transforms.storage.folders import publish, scratch
from transforms.storage.manifest import RowCounts
from transforms.storage.stage_files import read_parts
from transforms.workers.progress import LogThrottle

log = logging.getLogger("interest-explorer")

_LOG_SECONDS = 10.0


@dataclass(eq=False)
class Finetune(beam.PTransform):
    """Fine-tunes a language model on the examples of a workspace and writes its folder."""

    transitions: str  # folder of mine_transitions, with the examples of each split
    affinity: FollowLift
    prompts: Prompts
    folder: str  # of the model
    unfinished: str  # checkpoints of an interrupted run, on shared storage
    base_model: str
    config: FinetuneConfig
    hints: dict[str, str] = field(default_factory=dict)  # resources of the worker

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RowCounts]:
        train = beam.Map(self._train).with_resource_hints(**self.hints)
        return begin | "Once" >> beam.Create([None]) | "Train" >> train

    def _train(self, _: None) -> RowCounts:
        train, valid = (
            to_examples(read_parts(self.transitions, f"examples/{split}", col.EXAMPLES))
            for split in ("train", "valid")
        )
        log.info(
            "finetune: %d training and %d validation examples; the untuned model is measured first",
            len(train),
            len(valid),
        )
        reporter = _Reporter()
        with scratch(self.unfinished) as work:
            with as_input_error():
                history = finetune(
                    self.base_model,
                    train,
                    valid,
                    self.prompts.descriptions,
                    work.path / "model",
                    work.checkpoints,
                    self.config,
                    reporter,
                    work.save,
                    output_head_targets(self.prompts, self.affinity, self.config),
                    reporter.phase,
                    reporter.read,
                )
            rows = [asdict(row) for row in history]
            table = pa.Table.from_pylist(rows, schema=col.FINETUNE_HISTORY)
            model = publish(str(work.path / "model"), self.folder)
            record = files.write_parquet(self.folder, "history.parquet", table)
            return RowCounts(written=table.num_rows, files=(*model, record))


def output_head_targets(
    prompts: Prompts, affinity: FollowLift, config: FinetuneConfig
) -> HeadTargets | None:
    """Return the distributions for the output head at random pairs, None for no pairs."""
    size = len(prompts.descriptions)
    count = min(config.affinity_pairs * size, size * size)
    if not count:
        return None
    rng = np.random.default_rng(config.seed)
    c1, c2 = unpair(np.sort(rng.choice(size * size, count, replace=False)), size)
    texts = (prompts.render(one, two) for one, two in zip(c1, c2, strict=True))
    return HeadTargets(tuple(texts), affinity.probabilities(c1, c2))


def to_examples(table: pa.Table) -> list[Example]:
    """Return EXAMPLES as examples of `finetune`, in the same order."""
    return [
        Example(
            prompt=row[col.PROMPT],
            completion=row[col.COMPLETION],
            excluded=tuple(sorted({row[col.C1], row[col.C2]})),
            label=row[col.NOVEL],
        )
        for row in table.to_pylist()
    ]


class _Reporter:
    """Logs progress at intervals."""

    def __init__(self) -> None:
        self._line = LogThrottle(_LOG_SECONDS, at_once=True)

    def __call__(self, progress: TrainingProgress) -> None:
        if not self._line.is_due() and progress.step < progress.total:
            return
        log.info(
            "finetune: step %d of %d, loss %.3f, %s",
            progress.step,
            progress.total,
            progress.loss,
            f"at most {progress.seconds_left:.0f} s to the last step"
            if progress.step < progress.total
            else "measuring the weights",
        )

    def phase(self, name: str) -> None:
        log.info("finetune: %s", name)
        self._line.restart()

    def read(self, pairs: int) -> None:
        if self._line.is_due():
            log.info("finetune: the model has read %s pairs", f"{pairs:,}")
