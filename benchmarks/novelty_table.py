"""Compares the ways to build a novelty table: pairs a second, with the same model and prompts."""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import novelty_workspace
from benchmarks.arithmetic import NeededWork
from benchmarks.host_share import host_share
from benchmarks.methods import METHODS, TOP_N, Rows, ceiling
from benchmarks.progress import say
from benchmarks.task import Answer, Task
from pipelines.launch.flag_types import whole_number

OURS, FINE = "ours", "ours_761"  # with the clusters of the level that was mined, and of the finest
REFERENCE = "exact"  # what the answers should be; no way to build a table
BASELINES = tuple(name for name in METHODS if name != OURS)
# Ours is so much faster that as many pairs as the others take would be too few to time.
MORE_FOR_OURS = 10


def parts_of(size: int, pairs: int, repeats: int) -> list[Rows]:
    """Choose whole rows of a table of `size` clusters, in parts of about pairs / repeats pairs.

    Returns
    -------
    A row to warm up on, and then a part for each repeat. With fewer pairs, each part is the
    beginning of what it is with more; a table that has too few rows limits it.
    """
    rows = np.random.default_rng(0).permutation(size).tolist()
    count = min(max(1, round(pairs / repeats / size)), (size - 1) // repeats)
    return [rows[:1], *(rows[1 + part :: repeats][:count] for part in range(repeats))]


def run(name: str, task: Task, parts: Sequence[Rows]) -> list[Answer]:
    """Run a method over some rows; its answers for all parts but the first, which warms it up."""
    pairs = sum(map(len, parts)) * task.size
    load = os.getloadavg()[0]  # of others, as the engine is not there yet
    say(f"{name}: starts its engine, then answers {pairs:,} pairs (load before: {load:.1f})")
    begun = time.monotonic()
    answers = METHODS[OURS if name == FINE else name](task, parts)
    seconds = time.monotonic() - begun
    engine = seconds - sum(answer.seconds for answer in answers)
    say(f"{name}: done in {seconds:.0f} s, {engine:.0f} s of them start and end of the engine")
    return answers[1:]


def measure(tasks: dict[str, Task], pairs: int, repeats: int) -> dict[str, float]:
    """Run methods, print the table, and return the figures of the last line.

    Parameters
    ----------
    tasks
        By name of what to run: one of `METHODS` or `FINE`.
    pairs, repeats
        Of each baseline; `MORE_FOR_OURS` times as many pairs of ours.
    """
    answers: dict[str, list[Answer]] = {}
    figures: dict[str, float] = {}
    for name, task in tasks.items():
        if name in BASELINES:
            answers[name] = run(name, task, parts_of(task.size, pairs, repeats))
            continue
        parts = parts_of(task.size, MORE_FOR_OURS * pairs, repeats)
        before = ceiling(task.model)
        answers[name] = run(name, task, parts)
        top = statistics.mean([before, ceiling(task.model)])
        say(f"matrix products run at {top / 1e9:.0f} GFLOP/s")
        if name == OURS:
            work = NeededWork(task)
            figures["ceiling_share"] = statistics.median(
                work.flops(rows, answer) / answer.seconds / top
                for rows, answer in zip(parts[1:], answers[name], strict=True)
            )
            say("the whole pipeline, for the share of the time outside the engine")
            figures["host_share"], figures["estimate_over_real"] = host_share(task, TOP_N)
    print(table(answers))
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
    """Return the pairs a second, the median of the parts."""
    return statistics.median(answer.pairs_per_s for answer in answers)


def agreement(some: Sequence[Answer], others: Sequence[Answer]) -> float:
    """Return the share of the pairs that both answered for which both have the same best cluster.

    A part of the one begins with what the part of the other has; see `parts_of`.
    """
    same = [
        left == right
        for one, other in zip(some, others, strict=True)
        for left, right in zip(one.clusters[:, 0], other.clusters[:, 0], strict=False)
    ]
    return float(np.mean(same))


def table(answers: dict[str, list[Answer]]) -> str:
    """Return speeds and agreements for people."""
    compared = [name for name in answers if name != FINE]
    lines = [["", "pairs/s", "of each repeat", *(f"= {name}" for name in compared)]]
    for name, parts in answers.items():
        repeats = " ".join(f"{part.pairs_per_s:.1f}" for part in parts)
        same = [
            f"{agreement(parts, answers[other]):.1%}" if name in compared else ""
            for other in compared
        ]
        lines.append([name, f"{speed(parts):.1f}", repeats, *same])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run from a command line and return the exit code."""
    names = [*BASELINES, OURS, FINE]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.novelty_table", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--workspace",
        type=Path,
        default=Path("build/bench/novelty_table"),
        help="local folder that the pipelines make the model in; what is complete there is kept "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--pairs",
        type=whole_number(1),
        default=900,
        help=f"pairs for each baseline, in whole rows of c1; {MORE_FOR_OURS} times as many for "
        "ours (default: %(default)s, a minute or two for each)",
    )
    parser.add_argument(
        "--repeats",
        type=whole_number(1, 11),  # rows of the coarsest table, but for the one to warm up on
        default=3,
        help="parts that the pairs are timed in, for a median (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=names,
        default=names,
        metavar="NAME",
        help=f"what to run, of {', '.join(names)} (default: all)",
    )
    flags = parser.parse_args(argv)
    # As on Ctrl-C, what was started is ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    say(f"making {flags.workspace}, unless it is complete")
    novelty_workspace.prepare(flags.workspace)
    levels = dict.fromkeys(names, novelty_workspace.LEVEL) | {FINE: novelty_workspace.FINEST}
    tasks = {
        name: novelty_workspace.task(flags.workspace, levels[name])
        for name in names
        if name in flags.only
    }
    print(json.dumps(measure(tasks, flags.pairs, flags.repeats)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
