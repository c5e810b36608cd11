"""The machines of a pipeline's Dataflow workers: type, disk, GPU and memory."""

import argparse
from dataclasses import dataclass

from pipelines.launch.flag_types import matching
from pipelines.launch.flags import Flag

_ACCELERATOR = (
    r"type:[a-z0-9-]+;count:[1-9][0-9]*(;machine_type:[a-z0-9-]+)?"
    r"(;install-nvidia-driver(:[0-9a-z.]+)?)?"
)
_L4 = "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver"
_GROUP = "Dataflow workers"
_MIN_RAM = r"[1-9][0-9]*(GB|GiB)"


@dataclass(frozen=True)
class Workers:
    """The Dataflow workers of a pipeline, where flags do not say."""

    machine_type: str  # of the n1 series: GPUs can be attached to it
    # Whether they load a model: they need packages beyond the base dependencies, a larger disk for
    # the image, and one process a machine, since every process would load its own.
    models: bool
    most: int | None = None  # machines; Dataflow decides where it is None

    @property
    def disk_gb(self) -> int:
        """Return the size of a worker's disk in GB."""
        return 200 if self.models else 50


DEFAULT_WORKERS = Workers("n1-standard-4", models=False)


def worker_flags(what: str) -> tuple[Flag, ...]:
    """Return the flags for the workers of one heavy step, which `hints` reads."""
    return (
        Flag(
            "accelerator",
            f"GPU of the workers that {what} on Dataflow, such as '{_L4}'",
            type=matching(_ACCELERATOR, _L4),
            group=_GROUP,
            in_plan=False,
            form=("TEXT", rf"({_ACCELERATOR})?"),
        ),
        Flag(
            "min_ram",
            f"least memory of the workers that {what} on Dataflow, such as 32GB",
            type=matching(_MIN_RAM, "32GB"),
            no_default="the memory of the machine type",
            group=_GROUP,
            in_plan=False,
            form=("TEXT", rf"({_MIN_RAM})?"),
        ),
    )


def hints(flags: argparse.Namespace) -> dict[str, str]:
    """Return the resource hints that the flags of `worker_flags` ask for."""
    return {name: value for name in ("accelerator", "min_ram") if (value := getattr(flags, name))}
