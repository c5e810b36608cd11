from pathlib import Path

import pytest

from models.language.cost.count_queries import QueryCounts
from models.language.cost.model_size import flops, model_size
from tests.models.language.tiny_llm import save_tiny_llm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


def save_gpt2(folder: Path) -> Path:
    """Save a model whose layers have other names, and positions of their own."""
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_embd=48, n_layer=3, n_head=4, n_positions=64)
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request, folder: Path, tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoModelForCausalLM

    if request.param == "gpt2":
        folder = save_gpt2(tmp_path_factory.mktemp("gpt2"))
    return folder, AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


def test_layer_parameters_are_those_of_the_model_without_embeddings(model):
    folder, loaded = model
    names = ("embed_tokens", "wte", "wpe", "lm_head")
    expected = sum(
        weights.numel()
        for name, weights in loaded.named_parameters()
        if not any(embedding in name for embedding in names)
    )
    assert model_size(str(folder)).layer_parameters == expected


def test_flops_are_those_that_pytorch_counts_without_the_head(model):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    folder, loaded = model
    rows, length = 5, 40
    ids = torch.randint(0, 300, (rows, length))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.base_model(input_ids=ids)
    queries = QueryCounts(rows, rows * length, rows * length)
    assert flops(queries, model_size(str(folder))) == pytest.approx(
        counter.get_total_flops(), rel=0.03
    )


def test_a_folder_without_safetensors_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"no \.safetensors"):
        model_size(str(tmp_path))
