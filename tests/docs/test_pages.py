"""The docs agree with the code: generated parts, commands, flags and versions."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from docs import generate
from pipelines import explore
from pipelines.launch.workspace import PIPELINES

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Flags of Beam, of Google's tools, of Docker and of benchmarks, which the pages mention.
FOREIGN = re.compile(
    r"gcloud |^ *bq |docker|saved_model_cli|--runner|--block-size|--rectools|--items=1000|"
    r"--member=|--schedule|--uri=|--message-body|--location|--project=\$|--direct_running_mode|"
    r"--help|bigquerystorage|--no-deps"
)


@pytest.mark.parametrize("name", generate.PARTS)
def test_generated_parts_are_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == generate.generated(name), "run `make docs`"


def test_every_message_is_on_the_page() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text()
    found = list(generate.messages())
    assert len(found) > 50
    for path, text in found:
        fragment = max(re.split(r"…|; |: |, |\. |[`|]", text), key=len)
        assert " ".join(fragment.split()) in page, path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+%?):", (ROOT / "Makefile").read_text()))
    text = re.sub(r"(?s)<!-- generated.*?<!-- end -->", "", page.read_text())
    for target in re.findall(r"(?:`|^ *)make ([a-z][a-z_-]+)", text, re.M):
        assert target in targets or target.startswith("dataflow-"), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_exist(page: Path) -> None:
    stages = [stage.flags for stage in explore.STAGES]
    known = {flag.name for flags in stages for flag in flags} | {
        "dataset", "output_dataset", "sdk_container_image", "requirements_file", "temp_location",
        "project", "region", "runner", "max_num_workers",
    }  # fmt: skip
    text = re.sub(r"\\\n\s*", " ", page.read_text())  # one line for each command
    lines = (line for line in text.splitlines() if not FOREIGN.search(line))
    named = {name for line in lines for name in re.findall(r"(?<![\w-])--([a-z]\w*)", line)}
    assert named <= known


def test_the_pages_name_every_pipeline() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in PIPELINES.values())
    assert len(readme.splitlines()) <= 160


def test_links_of_the_files_outside_of_docs_exist() -> None:
    for page in ROOT.glob("*.md"):
        for link in re.findall(r"\]\((?!http|#)([^)#]+)", page.read_text()):
            assert (ROOT / link).exists(), (page.name, link)


def test_hooks_run_the_locked_tools() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in hooks] == ["local"]
    entries = [hook["entry"].split()[0] for hook in hooks[0]["hooks"]]
    assert {Path(entry).name for entry in entries} == {"ruff", "mypy", "lint-imports"}
    assert all(entry.startswith(".venv/bin/") for entry in entries)
    pins = dict(pin.split("==") for pin in PROJECT["project"]["optional-dependencies"]["dev"])
    for device in ("cpu", "gpu"):
        lock = (ROOT / f"requirements/{device}.txt").read_text().splitlines()
        for tool in ("ruff", "mypy", "import-linter"):
            assert f"{tool}=={pins[tool]} \\" in lock
            if device == "cpu":
                assert importlib.metadata.version(tool) == pins[tool]


def test_one_version() -> None:
    version = PROJECT["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
