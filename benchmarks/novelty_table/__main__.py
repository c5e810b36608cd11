"""Compares the ways to build a novelty table: pairs per second, with the same model and prompts."""

import json
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common.output import command_line, print_table, say, say_start
from benchmarks.novelty_table import workspace
from benchmarks.novelty_table.host_share import host_share
from benchmarks.novelty_table.methods import CLUSTERS_PER_PAIR, METHODS, Rows, peak_flops
from benchmarks.novelty_table.necessary_work import NecessaryWork
from benchmarks.novelty_table.task import Answer, Task
from pipelines.launch.flag_types import whole_number

OURS, FINE = "ours", "ours_761"  # with the clusters of the mined level, and of the finest level
REFERENCE = "exact"  # the correct answers; too slow to build a table
BASELINES = tuple(name for name in METHODS if name != OURS)
# Ours is so much faster that the baselines' number of pairs would be too few to time.
MORE_FOR_OURS = 10


def parts_of(size: int, pairs: int, repeats: int) -> list[Rows]:
    """Choose whole rows of a table of `size` clusters, in parts of about pairs / repeats pairs.

    The first part is a row to warm up, and then each repeat has a part. With fewer pairs, each part
    is a prefix of the part with more. The number of rows of the table limits the parts.
    """
    rows = np.random.default_rng(0).permutation(size).tolist()
    count = min(max(1, round(pairs / repeats / size)), (size - 1) // repeats)
    return [rows[:1], *(rows[1 + part :: repeats][:count] for part in range(repeats))]


def run(name: str, task: Task, parts: Sequence[Rows]) -> list[Answer]:
    """Run a method; return its answers without the first part, which warms it up."""
    pairs = sum(map(len, parts)) * task.size
    say_start(f"{name}: starts its engine, then answers {pairs:,} pairs")
    begun = time.monotonic()
    answers = METHODS[OURS if name == FINE else name](task, parts)
    seconds = time.monotonic() - begun
    engine = seconds - sum(answer.seconds for answer in answers)
    say(f"{name}: done in {seconds:.0f} s, {engine:.0f} s of them start and end of the engine")
    return answers[1:]


def measure(tasks: dict[str, Task], pairs: int, repeats: int) -> dict[str, float]:
    """Run the methods, print the table, and return the figures of the last line.

    `tasks` has names of `METHODS`, or `FINE`. `pairs` is per baseline; ours answers
    `MORE_FOR_OURS` times as many.
    """
    answers: dict[str, list[Answer]] = {}
    figures: dict[str, float] = {}
    for name, task in tasks.items():
        if name in BASELINES:
            answers[name] = run(name, task, parts_of(task.size, pairs, repeats))
            continue
        parts = parts_of(task.size, MORE_FOR_OURS * pairs, repeats)
        before = peak_flops(task.model)
        answers[name] = run(name, task, parts)
        peak = statistics.mean([before, peak_flops(task.model)])
        say(f"matrix products run at {peak / 1e9:.0f} GFLOP/s")
        if name == OURS:
            work = NecessaryWork(task)
            figures["ceiling_share"] = statistics.median(
                work.flops(rows, answer) / answer.seconds / peak
                for rows, answer in zip(parts[1:], answers[name], strict=True)
            )
            say("the whole pipeline, for the share of the time outside the engine")
            shares = host_share(task, CLUSTERS_PER_PAIR)
            figures["host_share"], figures["estimate_over_real"] = shares
    print_answers(answers)
    if OURS in answers:
        ours = speed(answers[OURS])
        figures["pairs_per_s"] = ours
        rivals = [name for name in BASELINES if name in answers and name != REFERENCE]
        figures |= {f"vs_{name}": ours / speed(answers[name]) for name in rivals}
        if REFERENCE in answers:
            figures["top1_agreement"] = agreement(answers[OURS], answers[REFERENCE])
        if FINE in answers:
            figures["cost_761_over_100"] = ours / speed(answers[FINE])
    return figures


def speed(answers: Sequence[Answer]) -> float:
    """Return the pairs per second, the median of the parts."""
    return statistics.median(answer.pairs_per_s for answer in answers)


def agreement(some: Sequence[Answer], others: Sequence[Answer]) -> float:
    """Return the share of the pairs with the same best cluster, of the pairs that both answered.

    One of two parts is a prefix of the other; see `parts_of`.
    """
    same = [
        left == right
        for one, other in zip(some, others, strict=True)
        for left, right in zip(one.clusters[:, 0], other.clusters[:, 0], strict=False)
    ]
    return float(np.mean(same))


def print_answers(answers: dict[str, list[Answer]]) -> None:
    """Print the speed of each method, and its agreement with the others."""
    compared = [name for name in answers if name != FINE]
    rows = []
    for name, parts in answers.items():
        repeats = " ".join(f"{part.pairs_per_s:.1f}" for part in parts)
        same = [
            f"{agreement(parts, answers[other]):.1%}" if name in compared else ""
            for other in compared
        ]
        rows.append([name, f"{speed(parts):.1f}", repeats, *same])
    print_table(["", "pairs/s", "of each repeat", *(f"= {name}" for name in compared)], rows)


def main() -> None:
    """Run from a command line."""
    names = [*BASELINES, OURS, FINE]
    parser = command_line("novelty_table", __doc__)
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("build/bench/novelty_table"),
        help="local folder where the pipelines make the model; complete stages are kept",
    )
    parser.add_argument(
        "--pairs",
        type=whole_number(1),
        default=900,
        help=f"pairs for each baseline, in whole rows of c1, a minute or two each; {MORE_FOR_OURS} "
        "times as many for ours",
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1, 11),  # rows of the coarsest table, without the row to warm up
        default=3,
        help="parts of the pairs that are timed, for a median",
    )
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="NAME", help="methods to run"
    )
    flags = parser.parse_args()
    # SIGTERM ends all child processes, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"making {flags.workspace}, unless it is complete")
    workspace.prepare(flags.workspace)
    levels = dict.fromkeys(names, workspace.LEVEL) | {FINE: workspace.FINEST}
    tasks = {
        name: workspace.task_of(flags.workspace, levels[name])
        for name in names
        if name in flags.only
    }
    print(json.dumps(measure(tasks, flags.pairs, flags.repeats)))


if __name__ == "__main__":
    main()
