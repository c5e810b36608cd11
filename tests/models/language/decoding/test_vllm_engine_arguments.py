"""What vLLM is started with."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from models.language.decoding.vllm_engine import VllmEngine


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Take the place of vLLM and keep its arguments."""
    kept: dict[str, Any] = {}
    stand_in = SimpleNamespace(LLM=lambda model, **arguments: kept.update(arguments))
    monkeypatch.setitem(sys.modules, "vllm", stand_in)
    platform = SimpleNamespace(is_cpu=lambda: True)
    platforms = SimpleNamespace(current_platform=platform)
    monkeypatch.setitem(sys.modules, "vllm.platforms", platforms)
    return kept


def test_given_arguments_go_before_defaults(started: dict[str, Any]) -> None:
    VllmEngine("folder", 0, {"dtype": "float16", "tensor_parallel_size": 2})
    assert (started["dtype"], started["tensor_parallel_size"]) == ("float16", 2)
    assert started["block_size"] == 32


def test_steps_are_small_on_the_cpu_alone(started: dict[str, Any]) -> None:
    VllmEngine("folder", 0, {})
    assert started.pop("max_num_seqs") == 128
    sys.modules["vllm.platforms"].current_platform.is_cpu = lambda: False
    VllmEngine("folder", 0, {})
    assert "max_num_seqs" not in started


def test_what_the_engine_returns_cannot_be_changed(started: dict[str, Any]) -> None:
    VllmEngine("folder", 0, {"runner": "generate", "trust_remote_code": True})
    assert (started["runner"], started["trust_remote_code"]) == ("pooling", False)
