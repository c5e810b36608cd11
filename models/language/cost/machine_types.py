"""Machine types: the speed of their matrix products and their price."""

from dataclasses import dataclass

# From Google's billing catalogue by way of
# https://github.com/Cyclenerd/google-cloud-pricing-cost-calculator/blob/082120d27ea7250d73db4b2520ce2c0df2d7a6c7/pricing.yml
# Its list of 2026-08-20 (commit dac31281) still has the price of a3.
PRICES = "on demand in us-central1, as of 2024-11-07"


@dataclass(frozen=True)
class Machine:
    """A machine type."""

    name: str
    chip: str
    tflops: float  # peak in bfloat16 without sparsity, 10^12 floating point operations a second
    dollars_per_hour: float


_KNOWN = (
    # 4 cores x 1,024 operations x 3.0 GHz of all cores:
    # https://en.wikipedia.org/wiki/Advanced_Matrix_Extensions
    # https://docs.cloud.google.com/compute/docs/general-purpose-machines
    Machine("c3-standard-8", "Intel Sapphire Rapids, 4 cores", 12.3, 0.403216),
    # Half of the 242 with sparsity, https://grokipedia.com/page/NVIDIA_L4_vs_L40S
    Machine("g2-standard-4", "NVIDIA L4", 121.0, 0.706832),
    # https://hmc-tech.com/gpu/nvidia-l4-vs-nvidia-a100-40gb
    Machine("a2-highgpu-1g", "NVIDIA A100 40 GB", 312.0, 3.673385),
    # https://glennklockwood.com/garden/processors/h100
    Machine("a3-highgpu-1g", "NVIDIA H100 80 GB", 989.0, 11.06125),
)
MACHINES = {machine.name: machine for machine in _KNOWN}


def machine_type(name: str) -> Machine:
    """Return a machine type; ValueError if it is unknown."""
    if name not in MACHINES:
        raise ValueError(f"the machine type {name!r} is not known; give {', '.join(MACHINES)}")
    return MACHINES[name]
