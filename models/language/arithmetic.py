"""What the machine computes with."""


def has_bfloat16() -> bool:
    """Say whether this machine multiplies bfloat16 in hardware.

    A CPU without the instructions emulates them, at a third of its speed in float32.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities()
    return any(can.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
