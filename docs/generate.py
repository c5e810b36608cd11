"""Writes the generated parts of docs/data.md and docs/troubleshooting.md from the code."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from transforms.inputs import reasons
from transforms.schemas import ARTEFACTS

ROOT = Path(__file__).parents[1]
ERRORS = ("InputError", "ValueError", "ArgumentTypeError", "ModelProcessLost")
# Folder or module -> heading, and the cure where a message names none. The longest path counts.
SUBJECTS = {
    "pipelines": ("Flags", "Correct the flag that the message names. `--help` lists the flags."),
    "pipelines/launch/dataflow": ("Dataflow", "See [Dataflow](dataflow.md)."),
    "pipelines/launch/workspace.py": ("Workspace", "Run the pipeline that the message names."),
    "pipelines/launch/upstream.py": ("Workspace", "Run the pipeline that the message names."),
    "pipelines/launch/resume.py": ("Workspace", "Give the same flags, or discard the files."),
    "transforms/inputs": ("Input files and tables", "Correct the input that the message names."),
    "transforms/storage/lock.py": ("Workspace", "Wait for the end of the other run."),
    "transforms/storage/paths.py": ("Workspace", "Use a workspace that you trust."),
    "transforms/storage/stage_files.py": ("Workspace", "Rerun the pipeline."),
    "transforms/tables/write_tables.py": ("Workspace", "Wait for the end of the other run."),
    "transforms/storage": ("Storage and BigQuery", "Check the path, the name and the permissions."),
    "transforms/tables": ("Storage and BigQuery", "Rerun the same command."),
    "transforms/clusters": ("Clusters", "Correct the items input or `--clusters`."),
    "transforms/transitions": ("Transitions", "More users with several interests are needed."),
    "transforms/language": ("Novelty table", "Correct the flag that the message names."),
    "transforms/retrieval": (
        "Retriever and SavedModel",
        "Build all stages from the same clusters.",
    ),
    "transforms/evaluation": ("Evaluation", "Check the splits of `mine_transitions`."),
    "models/clustering": ("Clusters", "Correct the items input or `--clusters`."),
    "models/language": ("Language model", "Give another `--base_model` or prompt."),
    "models/common": ("Model process", "Rerun the same command: finished work is kept."),
    "models/interests": ("Transitions", "More users with several interests are needed."),
    "models/retrieval/retriever_config.py": (
        "Flags",
        "Correct the flag `--retriever_…` that the message names.",
    ),
    "models/retrieval": ("Retriever and SavedModel", "Rebuild from the same clusters."),
    "models/evaluation": ("Evaluation", "Correct the flag that the message names."),
}

# Where the cure begins within a message.
_CURE = re.compile(
    r"; |(?:: |\. |, )(?=(?:[Gg]ive|ask|build|bring|choose|check|count|deduplicate|"
    r"embed|install|it must|look|name|pass|take|they must|the three must|there must|try) )"
)


def text_of(node: ast.expr) -> str | None:
    """Return a string literal with `…` for each value; None if there is no literal text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        return "".join(parts)
    return None


def messages() -> Iterator[tuple[str, str]]:
    """Yield (path of the module, message) of each error that the code raises."""
    for package in ("pipelines", "transforms", "models"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                    continue
                error = node.exc
                name = error.func.attr if isinstance(error.func, ast.Attribute) else error.func.id
                text = text_of(error.args[0]) if name in ERRORS and error.args else None
                if text is not None and re.search(r"[a-z]{3}", text):
                    yield str(path.relative_to(ROOT)), text


def subject(path: str) -> tuple[str, str]:
    """Return the heading and the general cure of a module."""
    return SUBJECTS[max((key for key in SUBJECTS if path.startswith(key)), key=len)]


def error_tables() -> str:
    """Return a table of messages for each subject."""
    rows = defaultdict(set)
    for path, text in messages():
        heading, cure = subject(path)
        cause, found = (*_CURE.split(text, 1), "")[:2]
        rows[heading].add(f"| `{_cell(cause)}` | {f'`{_cell(found)}`' if found else cure} |")
    return "\n\n".join(
        f"### {heading}\n\n| cause | cure |\n|---|---|\n" + "\n".join(sorted(rows[heading]))
        for heading in dict.fromkeys(heading for heading, _ in SUBJECTS.values())
        if heading in rows
    )


def dead_letter_table() -> str:
    """Return the reasons of the dead letter."""
    rows = (f"| {reason} | {_cell(cure)} |" for reason, cure in reasons.CURES.items())
    return "\n".join(["| reason | what to do |", "|---|---|", *rows])


def artefact_tables() -> str:
    """Return a table of columns for each artefact."""
    return "\n\n".join(
        f"### `{path}`\n\n{artefact.description}\n\n| column | type | meaning |\n|---|---|---|\n"
        + "\n".join(
            f"| `{field.name}` | {str(field.type).replace('element: ', '')} "
            f"| {_cell(artefact.columns[field.name])} |"
            for field in artefact.schema
        )
        for path, artefact in ARTEFACTS.items()
    )


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())


PARTS = {
    "data.md": {"artefacts": artefact_tables},
    "troubleshooting.md": {"errors": error_tables, "dead letter": dead_letter_table},
}


def generated(name: str) -> str:
    """Return a page with its generated parts as the code has them now."""
    page = (ROOT / "docs" / name).read_text()
    for part, write in PARTS[name].items():
        begin, end = f"<!-- generated: {part} -->", "<!-- end -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n\n{write()}\n\n{end}{rest.partition(end)[2]}"
    return page


def main() -> int:
    """Write the pages."""
    for name in PARTS:
        (ROOT / "docs" / name).write_text(generated(name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
