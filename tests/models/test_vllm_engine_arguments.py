"""What vLLM is started with."""

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from models.vllm_engine import VllmEngine


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Take the place of vLLM and keep its arguments."""
    kept: dict[str, Any] = {}
    stand_in = SimpleNamespace(LLM=lambda model, **arguments: kept.update(arguments))
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "1")
    return kept


def test_given_arguments_go_before_defaults(started: dict[str, Any]) -> None:
    VllmEngine("folder", 0, {"dtype": "float16", "tensor_parallel_size": 2}, widest=2)
    assert (started["dtype"], started["tensor_parallel_size"]) == ("float16", 2)
    assert started["block_size"] == 32


def test_what_answers_mean_cannot_be_changed(started: dict[str, Any]) -> None:
    VllmEngine("folder", 0, {"logprobs_mode": "raw_logprobs"}, widest=2)
    assert started["logprobs_mode"] == "processed_logprobs"


@pytest.mark.parametrize(("widest", "second_runner"), [(1_024, "1"), (1_025, "0")])
def test_more_tokens_than_the_second_runner_takes_switch_to_the_first(
    started: dict[str, Any], widest: int, second_runner: str
) -> None:
    VllmEngine("folder", 0, {}, widest)
    assert os.environ["VLLM_USE_V2_MODEL_RUNNER"] == second_runner
