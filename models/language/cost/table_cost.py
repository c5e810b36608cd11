"""The time and money that a novelty table will take."""

from dataclasses import dataclass

from models.language.cost.count_queries import Work
from models.language.cost.machine_types import PRICES, Machine, machine_type
from models.language.cost.model_size import ModelSize, flops, product_tflops

# Share of the speed of matrix products; measured by benchmarks/novelty_table.
ENGINE_SHARE = 0.65
ENGINE_START_SECONDS = 20.0  # on two cores, with a small model


@dataclass(frozen=True)
class Estimate:
    """Time and money on one machine; "at most" means that every branch is asked."""

    machine: Machine | None  # None: this machine
    tflops: float  # peak of a machine type, or measured on this machine
    seconds: float  # without the start of the engine
    seconds_at_most: float

    def dollars(self, seconds: float) -> float:
        """Return the price of the start of the engine and further seconds."""
        assert self.machine is not None
        return self.machine.dollars_per_hour / 3600 * (ENGINE_START_SECONDS + seconds)


def estimate(work: Work, size: ModelSize, machine: str | None) -> Estimate:
    """Estimate a table on a machine type, or on this machine, which is measured for a second.

    Raises ValueError if the machine type is unknown.
    """
    rented = None if machine is None else machine_type(machine)
    tflops = product_tflops(size) if rented is None else rented.tflops
    speed = ENGINE_SHARE * tflops * 1e12
    return Estimate(
        rented, tflops, flops(work.likely, size) / speed, flops(work.most, size) / speed
    )


def report(work: Work, size: ModelSize, result: Estimate) -> str:
    """Return the estimate as text."""
    machine, likely, most = result.machine, work.likely, work.most
    share = f"the engine reaches {ENGINE_SHARE:.0%} of {result.tflops:,.3g} TFLOP/s"
    lines = {
        "pairs": f"{work.pairs:,}",
        "queries": _range(likely.count, most.count),
        "prompt tokens": _range(likely.tokens, most.tokens),
        "of these cached": f"{work.cached_share:.1%}",
        "of these computed": _range(likely.computed, most.computed),
        "parameters": f"{size.layer_parameters:,} in the layers",
        "machine": "this one" if machine is None else f"{machine.name}: {machine.chip}",
        "start of the engine": _duration(ENGINE_START_SECONDS),
        "time": f"{_duration(result.seconds)}, at most {_duration(result.seconds_at_most)}",
    }
    if machine is None:
        share += ", as fast as matrices were multiplied here just now"
    else:
        costs = (result.dollars(result.seconds), result.dollars(result.seconds_at_most))
        lines["cost"] = "{}, at most {}".format(*(f"${max(cost, 0.01):,.2f}" for cost in costs))
        share += ", the machine's peak (a small model reaches less of a GPU's)"
        share += f"; ${machine.dollars_per_hour:.3f} an hour, {PRICES}"
    width = max(map(len, lines)) + 2
    table = [name.ljust(width) + value for name, value in lines.items()]
    assumed = (
        "Assumed: any clusters may be the best of a pair, so that some branches of descriptions "
        f"are not asked; at most, all are asked; {share}."
    )
    return "\n".join([*table, assumed])


def _range(likely: float, most: float) -> str:
    return f"{likely:,.0f}, at most {most:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds / 3600:,.1f} h"
