"""Time to train the retriever: beside RecTools' SASRec, and with a million items.

First both train on the same sequences of real data, one after the other, until the best NDCG@10 of
the held-out items; `to_best` is the ratio of the seconds. Then the product's steps are timed on
synthetic sequences over 10,000 and 1,000,000 items, in turn; `million_items` is the ratio of the
seconds per interaction. The last line is one JSON object.
"""

import contextlib
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common.datasets import ENCODER, FOLDER, real_log, with_traffic
from benchmarks.common.output import command_line, print_table, say, say_start
from benchmarks.retriever.__main__ import build_catalogue, make_splits
from benchmarks.retriever.rankers import RECTOOLS, Ours, add_rectools_flag, by_rectools
from models.clustering.text_encoder import TextEncoder
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever_config import RetrieverConfig
from models.retrieval.training.sequence_shards import SHARD, RowGroup, row_groups, shard_schema
from transforms.clusters.item_embeddings import item_texts

_DAY = 86_400_000_000  # microseconds
_CALLS = 6  # timed calls of TensorFlow, of `STEPS` steps each


def synthetic_log(items: int, interactions: int, folder: Path) -> tuple[Catalogue, list[RowGroup]]:
    """Write sequences of 50 items, whose popularity follows Zipf's law."""
    rng = np.random.default_rng(0)
    users = interactions // 50
    drawn = np.minimum(rng.zipf(1.2, (users, 50)) - 1, items - 1).astype(np.int32)
    times = np.sort(rng.integers(0, 365 * _DAY, (users, 50)), axis=1)
    catalogue = Catalogue(
        np.arange(items).astype(str),
        (np.arange(items) % 761).astype(np.int32),
        np.ones(items, bool),
        rng.normal(size=(items, 64)).astype(np.float32),
    )
    table = pa.table([np.arange(users), list(drawn), list(times)], schema=SHARD)
    path = str(folder / f"{items}.parquet")
    pq.write_table(table.cast(shard_schema(catalogue.vocabulary)), path)
    return catalogue, row_groups([path], catalogue.vocabulary)


def seconds_per_interaction(items: int, folder: Path) -> float:
    """Return the median over calls of the training step."""
    from models.retrieval.training import training_loop as loop

    config = RetrieverConfig()
    size = config.batch_size * config.max_length
    catalogue, groups = synthetic_log(items, (_CALLS + 1) * loop.STEPS * size * 2, folder)
    found = loop.survey(groups, items, validation_users=0)
    training = loop.Training(catalogue, groups, found, config, folder / "checkpoints")
    ends: list[float] = []

    def on_step(step: loop.Step) -> None:
        ends.append(time.monotonic())
        if len(ends) > _CALLS:
            raise StopIteration

    with contextlib.suppress(StopIteration):
        training.finish(loop.Callbacks(on_step=on_step))
    return statistics.median(np.diff(ends)) / (loop.STEPS * size)


def main() -> None:
    """Run from a command line."""
    parser = command_line("retriever_training", __doc__)
    parser.add_argument("--data", type=Path, default=FOLDER, help="folder of the data set")
    parser.add_argument("--dataset", default="movietweetings-100k", help="name of a folder in it")
    add_rectools_flag(parser)
    flags = parser.parse_args()
    log = real_log(flags.dataset, flags.data, Path())
    if log is None:
        parser.error(f"--data={flags.data} has no {flags.dataset}: name the folder that has it")
    items = with_traffic(*log)
    split = make_splits(log[0], items)["leave_one_out"]
    embeddings = TextEncoder(ENCODER).encode(item_texts(items))
    catalogue = build_catalogue(items, split.sequences, embeddings)
    interactions = sum(map(len, split.sequences))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say_start("RecTools' SASRec")
        settings = RECTOOLS[flags.dataset] | {"model": "SASRec"}
        _, theirs = by_rectools(flags.rectools_python, settings)(split, catalogue, 0, folder)
        say_start("ours")
        ours = Ours(split, catalogue, 0, folder, {})
        per_interaction = {}
        for count in (10_000, 1_000_000):
            say_start(f"{count:,} items")
            per_interaction[count] = seconds_per_interaction(count, folder)
    found = {
        "interactions": interactions,
        "seconds_to_best": {"ours": ours.seconds_to_best, "rectools": theirs},
        "seconds_in_all": ours.seconds[-1],
        "to_best": ours.seconds_to_best / theirs,
        "interactions_per_second": {count: 1 / s for count, s in per_interaction.items()},
        "million_items": per_interaction[1_000_000] / per_interaction[10_000],
    }
    say(f"ours: {len(ours.history)} epochs, {ours.seconds[-1]:.0f} s with that on everything")
    print_table(
        ["", "seconds to the best epoch"],
        [["ours", f"{ours.seconds_to_best:.1f}"], ["RecTools' SASRec", f"{theirs:.1f}"]],
    )
    print_table(
        ["items", "interactions/s"],
        [[f"{count:,}", f"{1 / s:,.0f}"] for count, s in per_interaction.items()],
    )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
