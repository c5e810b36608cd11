from pathlib import Path

import pytest

from models.language.cost import model_size as sizes
from models.language.cost.count_queries import QueryCounts, Work
from models.language.cost.machine_types import MACHINES
from models.language.cost.model_size import flops, model_size
from models.language.cost.table_cost import (
    ENGINE_SHARE,
    ENGINE_START_SECONDS,
    Estimate,
    estimate,
    report,
)
from tests.models.language.tiny_llm import save_tiny_llm

WORK = Work(
    pairs=1_234_567,
    first=QueryCounts(1_234_567, 80_000_000, 20_000_000),
    deeper=QueryCounts(2_000_000, 120_000_000, 30_000_000),
    every=QueryCounts(9_000_000, 600_000_000, 150_000_000),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


def test_an_unknown_machine_is_refused_with_those_that_are_known(folder):
    with pytest.raises(ValueError, match="'g2-standard-5'") as error:
        estimate(WORK, model_size(str(folder)), "g2-standard-5")
    assert all(name in str(error.value) for name in MACHINES)


def test_time_is_work_by_the_speed_that_the_engine_reaches(folder):
    size = model_size(str(folder))
    result = estimate(WORK, size, "c3-standard-8")
    speed = ENGINE_SHARE * MACHINES["c3-standard-8"].tflops * 1e12
    assert result.seconds == pytest.approx(flops(WORK.likely, size) / speed)
    assert result.seconds_at_most == pytest.approx(flops(WORK.most, size) / speed)


def test_dollars_pay_for_the_start_of_the_engine_too(folder):
    result = estimate(WORK, model_size(str(folder)), "c3-standard-8")
    hours = (result.seconds + ENGINE_START_SECONDS) / 3600
    assert result.dollars(result.seconds) == pytest.approx(
        hours * MACHINES["c3-standard-8"].dollars_per_hour
    )


def test_this_machine_is_measured_and_has_no_price(folder, monkeypatch):
    monkeypatch.setattr(sizes, "_MEASURED_SECONDS", 0.05)
    result = estimate(WORK, model_size(str(folder)), None)
    assert 1e-4 < result.tflops < 1e4
    assert result.machine is None
    assert "cost" not in report(WORK, model_size(str(folder)), result)


def test_the_report_has_the_figures(folder):
    size = model_size(str(folder))
    machine = MACHINES["g2-standard-4"]
    result = Estimate(machine, machine.tflops, 1800.0, 7_200_000.0)
    lines = report(WORK, size, result).splitlines()
    for line in (
        "pairs                1,234,567",
        "queries              3,234,567, at most 10,234,567",
        "prompt tokens        200,000,000, at most 680,000,000",
        "of these cached      75.0%",
        "of these computed    50,000,000, at most 170,000,000",
        "machine              g2-standard-4: NVIDIA L4",
        "start of the engine  20 s",
        "time                 30 min, at most 2,000.0 h",
        "cost                 $0.36, at most $1,413.67",
    ):
        assert line in lines
    assert "65% of 121 TFLOP/s" in lines[-1]
