"""The whole pipeline: the share of its time outside the engine, and the error of the estimate."""

import json
import tempfile
import time

import apache_beam as beam
import numpy as np

from benchmarks.novelty_table.task import Task
from models.common.model_process import end_model_processes
from models.language.cost.count_queries import count_work
from models.language.cost.model_size import model_size
from models.language.cost.table_cost import estimate
from models.language.language_model import load_tokenizer
from transforms.language.build_novelty_table import BuildNoveltyTable, row_parts
from transforms.language.novelty_engine import NoveltyEngine, NoveltyEngineSpec
from transforms.storage.commit_log import CommitLog


class TimedEngine(NoveltyEngine):
    """Records the time of the first request, and how long the engine itself has worked."""

    begun = 0.0
    engine_seconds = 0.0

    def decode(self, c1: np.ndarray, c2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode pairs."""
        TimedEngine.begun = TimedEngine.begun or time.monotonic()
        answer = super().decode(c1, c2)
        TimedEngine.engine_seconds = self._process.call("engine_seconds")
        return answer


def host_share(task: Task, clusters_per_pair: int) -> tuple[float, float]:
    """Build the whole table with Beam, from the first request to the last commit.

    Return the share of the time outside the engine (tokenising, the trie's arithmetic, passing
    pairs between processes, Arrow, Parquet, checksums and Beam), and estimated over real time.
    """
    tokenizer, parts = load_tokenizer(task.model), row_parts(task.size)
    work = count_work(tokenizer, task.prompts, (), clusters_per_pair, parts)
    estimated = estimate(work, model_size(task.model), None).seconds
    spec = NoveltyEngineSpec(
        task.model, task.prompts, (), clusters_per_pair, 0, json.dumps({}), 1_800.0
    )
    with tempfile.TemporaryDirectory() as folder:
        committed = CommitLog(f"{folder}/table", f"{folder}/notes")
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            pipeline | BuildNoveltyTable(committed, spec, engine=TimedEngine)
        seconds = time.monotonic() - TimedEngine.begun
        end_model_processes()
    return 1 - TimedEngine.engine_seconds / seconds, estimated / seconds
