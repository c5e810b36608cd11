"""No library reports its use to its makers, unless the user wants it to."""

import importlib
import os

import pytest

import models

NAMES = ("HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")


@pytest.mark.parametrize("name", NAMES)
def test_an_import_of_any_algorithm_turns_it_off(name: str, monkeypatch) -> None:
    monkeypatch.delenv(name)
    importlib.reload(models)
    assert os.environ[name] == "1"
    monkeypatch.setenv(name, "0")
    importlib.reload(models)
    assert os.environ[name] == "0"


def test_hugging_faces_hub_heeds_it() -> None:
    from huggingface_hub import constants

    assert constants.HF_HUB_DISABLE_TELEMETRY
