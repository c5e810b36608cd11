"""What docs/serving.md says, on a small SavedModel."""

import functools
import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.common.synthetic_model import write_saved_model
from models.retrieval.item_catalogue import Catalogue
from models.retrieval.retriever_config import RetrieverConfig

PAGE = (Path(__file__).parents[2] / "docs/serving.md").read_text()
IDS = ["1", "260", "1196", "3114", *(f"other {number}" for number in range(36))]
CLUSTERS = 12


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", PAGE)


def requests() -> list[dict[str, Any]]:
    return [found for text in blocks("json") if "signature_name" in (found := json.loads(text))]


def responses() -> list[dict[str, Any]]:
    return [found for text in blocks("json") if "signature_name" not in (found := json.loads(text))]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("retrieval") / "saved_model"
    clusters = (np.arange(len(IDS)) % CLUSTERS).astype(np.int32)
    catalogue = Catalogue(np.array(IDS), clusters, np.ones(len(IDS), bool))
    config = RetrieverConfig(dimension=8, layers=1, max_length=4)
    write_saved_model(path, catalogue, CLUSTERS, config, k=3)
    return path


@functools.cache
def loaded(path: Path) -> Any:
    return tf.saved_model.load(str(path))


def send(path: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request as the REST API of TensorFlow Serving says it does."""
    signature = loaded(path).signatures[request["signature_name"]]
    specs = signature.structured_input_signature[1]
    rows = request.get("instances")
    columns = request.get("inputs") or {name: [row[name] for row in rows] for name in rows[0]}
    assert columns.keys() == specs.keys()
    tensors = {name: tf.constant(value, specs[name].dtype) for name, value in columns.items()}
    outputs = {name: plain(value.numpy()) for name, value in signature(**tensors).items()}
    if rows is None:
        return {"outputs": outputs}
    return {
        "predictions": [{name: outputs[name][row] for name in outputs} for row in range(len(rows))]
    }


def plain(values: np.ndarray) -> list[Any]:
    """Return what JSON has."""
    return (
        np.char.decode(values.astype(bytes)).tolist() if values.dtype == object else values.tolist()
    )


def shape_of(value: Any) -> Any:
    """Replace the values of an answer by their types; a list is of one type."""
    if isinstance(value, dict):
        return {name: shape_of(inside) for name, inside in value.items()}
    if isinstance(value, list):
        (one,) = {json.dumps(shape_of(inside), sort_keys=True) for inside in value}
        return [len(value), one]
    return type(value).__name__


def test_the_page_has_a_request_for_each_signature(path: Path) -> None:
    names = {request["signature_name"] for request in requests()}
    assert names == set(loaded(path).signatures)


def test_what_is_served_is_put_in_place_as_the_page_says(path: Path, tmp_path: Path) -> None:
    (tmp_path / "build/demo/retrieval").mkdir(parents=True)
    (tmp_path / "build/demo/retrieval/saved_model").symlink_to(path)
    (block,) = (block for block in blocks("bash") if "docker run" in block)
    subprocess.run(["sh", "-ec", block.split("docker run")[0]], cwd=tmp_path, check=True)
    version = tmp_path / "serving/interest_explorer/1"
    for name in ("saved_model.pb", "variables/variables.index"):
        assert (version / name).read_bytes() == (path / name).read_bytes()
    assert not (tmp_path / "serving/unfinished").exists()


@pytest.mark.parametrize(("request_at", "response_at"), [(0, 0), (2, 1)])
def test_requests_are_answered_in_the_form_that_the_page_shows(
    path: Path, request_at: int, response_at: int
) -> None:
    answer = send(path, requests()[request_at])
    assert shape_of(answer) == shape_of(responses()[response_at])


@pytest.mark.parametrize("signature", ["explore_sampled", "explore_pooled"])
def test_columns_give_what_rows_give(path: Path, signature: str) -> None:
    (by_columns,) = (one for one in requests() if one["signature_name"] == signature)
    columns = by_columns["inputs"]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    by_rows = send(path, {"signature_name": signature, "instances": rows})["predictions"]
    found = send(path, by_columns)["outputs"]
    assert [{name: found[name][row] for name in found} for row in range(len(rows))] == by_rows


def test_one_known_interest_leaves_nothing_to_draw(path: Path) -> None:
    by_name = {request["signature_name"]: request for request in requests()}
    explored, sampled = (
        send(path, by_name[name])["outputs"] for name in ("explore", "explore_sampled")
    )
    assert sampled.keys() == explored.keys()
    for name in ("novel_cluster", "item_ids"):
        assert sampled[name][1] == explored[name][1]


def test_the_program_prints_items_of_a_cluster(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That TensorFlow alone is enough, a test of the SavedModel looks at."""
    (program,) = blocks("python")
    monkeypatch.setattr(sys, "argv", ["program.py", str(path)])
    exec(program, {"__name__": "__main__"})
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"cluster \d+", lines[0])
    assert set(lines[1].split()) <= {"other", *IDS, *map(str, range(36))}
    assert len(lines) == 5


def test_the_command_shows_what_a_signature_takes_and_gives(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith("saved_model_cli")]
    command = line.replace("build/demo/retrieval/saved_model", str(path)).split()
    [script] = entry_points(group="console_scripts", name=command[0])
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        script.load()()
    shown = capsys.readouterr().out
    for name in ("history", "novel_cluster", "propensity"):
        assert f"'{name}'" in shown
