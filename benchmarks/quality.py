"""Whether the fine-tuned table finds next interests better than every baseline, on real data.

    make bench-quality DATA=../shared/data/movietweetings-100k WORKSPACE=build/quality

runs the job and `evaluate`, with two more tables beside ours: of the base model as it is and of one
tuned without diversification. `llm_examples_alone`, if asked for, is tuned on the diversified
examples alone. Started again it goes on where it stopped.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.progress import say

# What each other table is made with: the flags of mining (none: ours are taken) and of tuning.
EXAMPLES_ALONE = "--finetune_affinity_pairs=0"
OTHERS: dict[str, tuple[list[str] | None, list[str]]] = {
    "llm_untuned": (None, ["--finetune_max_steps=0", EXAMPLES_ALONE]),
    "llm_undiversified": (["--diversify=none"], [EXAMPLES_ALONE]),
    "llm_examples_alone": (None, [EXAMPLES_ALONE]),
}
# Differences of a hundredth show on a thousand users: more are asked than by default.
TEST_SHARE = "--test_share=0.3"
ITEM_EXAMPLES = "--item_examples=20000"
METRICS = ("recall_at_5", "macro_recall_at_5", "mrr", "coverage", "entropy", "novelty")


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/movietweetings-100k")
    parser.add_argument("--workspace", default="build/quality")
    parser.add_argument("--clusters", default="6,12,24,48", help="clusters per level")
    parser.add_argument(
        "--others",
        default="llm_untuned,llm_undiversified",
        help=f"which of {','.join(OTHERS)} to make too; '' for none",
    )
    given = parser.parse_args()
    others = [name for name in given.others.split(",") if name]
    if unknown := sorted(set(others) - set(OTHERS)):
        parser.error(f"--others: {','.join(unknown)} is not known; give some of {','.join(OTHERS)}")
    log = [f"--interactions={given.data}/interactions.parquet"]
    items = [f"--items={given.data}/items.parquet"]
    ours = Path(given.workspace)

    stage("build_clusters", ours, *log, *items, f"--clusters={given.clusters}")
    stage("mine_transitions", ours, *log, TEST_SHARE)
    tuned_table(ours)
    for name in others:
        mining, tuning = OTHERS[name]
        workspace = ours / name
        borrow(ours, workspace, "clusters")
        if mining is None:
            borrow(ours, workspace, "transitions")
        else:
            stage("mine_transitions", workspace, *log, TEST_SHARE, *mining)
        tuned_table(workspace, *tuning)
    stage("train_retrieval", ours, *log)
    tables = [f"--compare_table={name}={ours / name}" for name in others]
    stage("evaluate", ours, *log, *tables, ITEM_EXAMPLES)
    report(json.loads((ours / "report/metrics.json").read_text()))
    say(f"{ours}/report/index.html has it all")


def stage(name: str, workspace: Path, *flags: str) -> None:
    """Run one pipeline."""
    command = [sys.executable, "-m", f"pipelines.{name}", f"--workspace={workspace}", *flags]
    if (code := subprocess.run(command, stdout=sys.stderr).returncode) != 0:
        sys.exit(code)


def tuned_table(workspace: Path, *tuning: str) -> None:
    """Fine-tune a model and build its table."""
    stage("finetune", workspace, *tuning)
    stage("build_novelty_table", workspace)


def borrow(theirs: Path, workspace: Path, folder: str) -> None:
    """Let a workspace have a complete stage of another."""
    workspace.mkdir(parents=True, exist_ok=True)
    if not (workspace / folder).is_symlink():
        os.symlink((theirs / folder).resolve(), workspace / folder)


def report(metrics: dict) -> None:
    """Print the policies beside each other, and as JSON whether ours wins."""
    policies = metrics["policies"]
    print(f"{'policy':<22}" + "".join(f"{name:>20}" for name in METRICS))
    for name, values in policies.items():
        print(f"{name:<22}" + "".join(f"{cell(values.get(metric)):>20}" for metric in METRICS))
    baselines = {name: v for name, v in policies.items() if not name.startswith("novelty_table")}
    figures = {
        "policies": {
            name: {metric: (values.get(metric) or {}).get("value") for metric in METRICS}
            for name, values in policies.items()
        },
        "not_beaten_macro": not_beaten(metrics["paired"]["macro_recall_at_5"]),
        "not_beaten_micro": not_beaten(metrics["paired"]["recall_at_5"]),
        "pooled_not_beaten_macro": not_beaten(metrics["paired_pooled"]["macro_recall_at_5"]),
        "pooled_not_beaten_micro": not_beaten(metrics["paired_pooled"]["recall_at_5"]),
        "coverage_of_the_best": max(
            baselines.items(), key=lambda item: item[1]["macro_recall_at_5"]["value"]
        )[1]["coverage"]["value"],
    }
    print(json.dumps(figures))


def not_beaten(differences: dict[str, dict[str, float]]) -> list[str]:
    """Name the baselines that ours does not beat by the interval of the paired difference."""
    return [
        name
        for name, one in differences.items()
        if not name.startswith("novelty_table") and not one["low"] > 0
    ]


def cell(value: dict[str, float] | None) -> str:
    """Return a figure with its interval."""
    if not value or value["value"] is None:
        return "-"
    return f"{value['value']:.3f} [{value['low']:.3f} {value['high']:.3f}]"


if __name__ == "__main__":
    main()
