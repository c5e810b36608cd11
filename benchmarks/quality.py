"""Whether exploration finds next interests better than every baseline, on real data.

    make bench-quality DATA=../shared/data/movietweetings-100k WORKSPACE=build/quality

runs the job and `evaluate`, with two more tables beside ours: one of the base model without tuning
and one tuned without diversification. `llm_examples_alone` (optional) is tuned on the diversified
examples only. A second run continues the first.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.common.output import command_line, print_table, say
from models.evaluation.policies.policy_names import ALIGNED, ALIGNED_WITHOUT_TABLE, OURS

# The flags of mining (None: our transitions are used) and of tuning, for each other table.
EXAMPLES_ALONE = "--finetune_affinity_pairs=0"
OTHERS: dict[str, tuple[list[str] | None, list[str]]] = {
    "llm_untuned": (None, ["--finetune_max_steps=0", EXAMPLES_ALONE]),
    "llm_undiversified": (["--diversify=none"], [EXAMPLES_ALONE]),
    "llm_examples_alone": (None, [EXAMPLES_ALONE]),
}
# More test users than by default: differences of 0.01 show on a thousand users.
TEST_SHARE = "--test_share=0.3"
ITEM_EXAMPLES = "--item_examples=20000"
METRICS = ("recall_at_5", "macro_recall_at_5", "mrr", "coverage", "entropy", "novelty")


def run_all(ours: Path, data: str, clusters: str, others: list[str]) -> None:
    """Build our table and the others, and evaluate them."""
    log, items = f"--interactions={data}/interactions.parquet", f"--items={data}/items.parquet"
    run("build_clusters", ours, log, items, f"--clusters={clusters}")
    run("mine_transitions", ours, log, TEST_SHARE)
    build_tuned_table(ours)
    for name in others:
        mining, tuning = OTHERS[name]
        workspace = ours / name
        link_stage(ours, workspace, "clusters")
        if mining is None:
            link_stage(ours, workspace, "transitions")
        else:
            run("mine_transitions", workspace, log, TEST_SHARE, *mining)
        build_tuned_table(workspace, *tuning)
    run("train_retrieval", ours, log)
    tables = [f"--compare_table={name}={ours / name}" for name in others]
    run("evaluate", ours, log, *tables, ITEM_EXAMPLES)


def run(pipeline: str, workspace: Path, *flags: str) -> None:
    """Run a pipeline; exit with its code if it fails."""
    command = [sys.executable, "-m", f"pipelines.{pipeline}", f"--workspace={workspace}", *flags]
    if (code := subprocess.run(command, stdout=sys.stderr).returncode) != 0:
        sys.exit(code)


def build_tuned_table(workspace: Path, *tuning: str) -> None:
    """Fine-tune a model and build its table."""
    run("finetune", workspace, *tuning)
    run("build_novelty_table", workspace)


def link_stage(source: Path, workspace: Path, folder: str) -> None:
    """Link a complete stage of another workspace."""
    workspace.mkdir(parents=True, exist_ok=True)
    if not (workspace / folder).is_symlink():
        os.symlink((source / folder).resolve(), workspace / folder)


def print_metrics(metrics: dict) -> None:
    """Print the policies beside each other, and as JSON whether ours wins."""
    policies = metrics["policies"]
    print_table(
        ["policy", *METRICS],
        [
            [name, *(with_interval(values.get(metric)) for metric in METRICS)]
            for name, values in policies.items()
        ],
    )
    baselines = [values for name, values in policies.items() if name not in OURS]
    best = max(baselines, key=lambda values: values["macro_recall_at_5"]["value"])
    figures = {
        "policies": {
            name: {metric: (values.get(metric) or {}).get("value") for metric in METRICS}
            for name, values in policies.items()
        },
        "weights": metrics["alignment"][ALIGNED],
        **{
            f"not_beaten_by_{name}": {
                metric: not_beaten(differences) for metric, differences in metrics[where].items()
            }
            for name, where in (("aligned", "paired_aligned"), ("table", "paired"))
        },
        "llm_adds": {
            metric: differences[ALIGNED_WITHOUT_TABLE]
            for metric, differences in metrics["paired_aligned"].items()
        },
        "coverage_of_the_best": best["coverage"]["value"],
    }
    print(json.dumps(figures))


def not_beaten(differences: dict[str, dict[str, float]]) -> list[str]:
    """Return the baselines whose interval of the paired difference does not lie above 0."""
    return [
        name
        for name, difference in differences.items()
        if name not in OURS and not difference["low"] > 0
    ]


def with_interval(value: dict[str, float] | None) -> str:
    """Format a figure with its interval."""
    if not value or value["value"] is None:
        return "-"
    return f"{value['value']:.3f} [{value['low']:.3f} {value['high']:.3f}]"


def main() -> None:
    """Run from a command line."""
    parser = command_line("quality", __doc__)
    parser.add_argument(
        "--data", default="../shared/data/movietweetings-100k", help="folder of the data set"
    )
    parser.add_argument("--workspace", default="build/quality", help="folder of all artefacts")
    parser.add_argument("--clusters", default="6,12,24,48", help="clusters per level")
    parser.add_argument(
        "--others",
        default="llm_untuned,llm_undiversified",
        help=f"other tables to build, of {','.join(OTHERS)}; '' for none",
    )
    flags = parser.parse_args()
    others = [name for name in flags.others.split(",") if name]
    if unknown := sorted(set(others) - set(OTHERS)):
        parser.error(f"--others: {','.join(unknown)} is not known; give some of {','.join(OTHERS)}")
    workspace = Path(flags.workspace)
    run_all(workspace, flags.data, flags.clusters, others)
    print_metrics(json.loads((workspace / "report/metrics.json").read_text()))
    say(f"the whole report: {workspace}/report/index.html")


if __name__ == "__main__":
    main()
