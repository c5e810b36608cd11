"""The whole pipeline: how much of its time passes outside the engine, and was it foreseen."""

import json
import tempfile
import time

import apache_beam as beam
import numpy as np

from benchmarks.task import Task
from models.common.model_process import end_model_processes
from models.language.cost.count_queries import count_work
from models.language.cost.model_size import model_size
from models.language.cost.table_cost import estimate
from models.language.language_model import load_tokenizer
from transforms.language.build_novelty_table import BuildNoveltyTable, row_parts
from transforms.language.novelty_engine import NoveltyEngine, NoveltyEngineSpec
from transforms.storage.commit_log import CommitLog


class TimedEngine(NoveltyEngine):
    """Notes when the first unit is asked for, and how long the engine itself has worked."""

    begun = 0.0
    engine_seconds = 0.0

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode pairs."""
        TimedEngine.begun = TimedEngine.begun or time.monotonic()
        answer = super().decode(c1, c2)
        TimedEngine.engine_seconds = self._process.call("engine_seconds")
        return answer


def host_share(task: Task, top_n: int) -> tuple[float, float]:
    """Build the whole table with Beam, and time it.

    Returns
    -------
    The share of the time spent outside the engine, and the estimated time over the real one.
    Outside are tokenising, the trie's arithmetic, passing pairs between processes, Arrow, Parquet,
    checksums and Beam; from the first unit that is asked for to the last that is committed.
    """
    size = model_size(task.model)
    work = count_work(load_tokenizer(task.model), task.prompts, (), top_n, row_parts(task.size))
    estimated = estimate(work, size, None).seconds
    spec = NoveltyEngineSpec(task.model, task.prompts, (), top_n, 0, json.dumps({}), 1_800.0)
    with tempfile.TemporaryDirectory() as folder:
        committed = CommitLog(f"{folder}/table", f"{folder}/notes")
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            pipeline | BuildNoveltyTable(committed, spec, engine=TimedEngine)
        seconds = time.monotonic() - TimedEngine.begun
        end_model_processes()
    return 1 - TimedEngine.engine_seconds / seconds, estimated / seconds
