"""The arithmetic of a language model, and the speed of this machine."""

import json
import math
import os
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from models.language.cost.count_queries import QueryCounts
from models.language.language_model import has_bfloat16

_ROWS = 2048  # of the matrix products, as the tokens of an engine's step
_MEASURED_SECONDS = 1.0
# The layers that engines compute as one product.
_FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "mlp", "up_proj": "mlp"}


@dataclass(frozen=True)
class ModelSize:
    """The arithmetic of a language model."""

    layer_parameters: int  # all layers, all experts of a mixture
    attention_width: int  # all heads of all layers
    products: tuple[tuple[int, int], ...]  # (outputs, inputs) in a layer, fused as engines do
    dtype: str  # in which the engine computes, in PyTorch's terms


def model_size(folder: str) -> ModelSize:
    """Read the arithmetic of a model folder; ValueError if it has no weights in safetensors."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
    shapes: dict[str, list[int]] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes |= {name: at["shape"] for name, at in header.items() if name != "__metadata__"}
    if not shapes:
        raise ValueError(f"the folder {folder!r} has no .safetensors; save the model in them")
    layers = {
        name: shape
        for name, shape in shapes.items()
        if config.vocab_size not in shape and not re.search("emb|wpe", name)
    }
    products: dict[str, tuple[int, int]] = {}
    for name, shape in layers.items():
        number = re.search(r"\.(\d+)\.", name)
        if len(shape) == 2 and number is not None and number[1] == "0":
            part = name.split(".")[-2]
            key = name.replace(part, _FUSED.get(part, part))
            products[key] = (products.get(key, (0, 0))[0] + shape[0], shape[1])
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return ModelSize(
        layer_parameters=sum(map(math.prod, layers.values())),
        attention_width=config.num_hidden_layers * heads * width,
        products=tuple(products.values()),
        dtype=str(config.dtype or "float32").removeprefix("torch.")
        if has_bfloat16()
        else "float32",
    )


def flops(queries: QueryCounts, size: ModelSize) -> float:
    """Return the floating point operations of queries.

    Each computed token is taken to attend to the tokens of a mean query, slightly too many. The
    used rows of the output head are few and left out.
    """
    if not queries.count:
        return 0.0
    attention = 4 * size.attention_width * queries.tokens / queries.count
    return queries.computed * (2 * size.layer_parameters + attention)


def product_tflops(size: ModelSize) -> float:
    """Measure the speed of a model's matrix products on all cores of this machine, in TFLOP/s."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, size.dtype)
    factors = [
        (
            torch.randn(_ROWS, inputs, dtype=dtype, device=device),
            torch.randn(outputs, inputs, dtype=dtype, device=device),
        )
        for outputs, inputs in size.products
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    seconds: list[float] = []
    end = time.perf_counter() + _MEASURED_SECONDS
    with torch.inference_mode():
        while time.perf_counter() < end or len(seconds) < 2:
            begun = time.perf_counter()
            for left, right in factors:
                torch.nn.functional.linear(left, right)
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - begun)
    torch.set_num_threads(threads)
    operations = sum(2 * _ROWS * outputs * inputs for outputs, inputs in size.products)
    return operations / statistics.median(seconds[1:]) / 1e12  # the first one chooses its kernels
