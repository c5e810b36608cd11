"""Rows of the output head, against the logits of the whole model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from models.language.output_head import OutputHead, check_output_head

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TOKENS = np.array([3, 17, 59])


def model_of(kind: str):
    torch.manual_seed(0)
    model = {
        "tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
        "untied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
        "with a bias": lambda: PhiForCausalLM(PhiConfig(**SIZES | {"num_key_value_heads": 2})),
        "scaled": lambda: CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.1)),
        "capped": lambda: Gemma2ForCausalLM(
            Gemma2Config(**SIZES, head_dim=16, final_logit_softcapping=2.0)
        ),
    }[kind]()
    if kind == "with a bias":
        torch.nn.init.normal_(model.lm_head.bias)
    torch.nn.init.normal_(model.get_output_embeddings().weight)  # logits that a cap would change
    return model.eval()


@pytest.mark.parametrize("kind", ["tied", "untied", "with a bias"])
def test_logits_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    model_of(kind).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.inference_mode():
        output = model(ids, output_hidden_states=True)
    found = OutputHead(str(tmp_path), TOKENS).logits(output.hidden_states[-1][:, -1].numpy())
    np.testing.assert_allclose(found, output.logits[:, -1, TOKENS], rtol=1e-5, atol=1e-5)


def test_weights_in_bfloat16_are_computed_in_float32(tmp_path: Path) -> None:
    model = model_of("tied").bfloat16()
    model.save_pretrained(tmp_path)
    state = torch.randn(1, 32)
    found = OutputHead(str(tmp_path), TOKENS).logits(state.numpy())
    expected = state.double() @ model.lm_head.weight[TOKENS].double().T
    np.testing.assert_allclose(found, expected.detach(), rtol=1e-5, atol=1e-5)


def test_no_tokens_have_no_logits(tmp_path: Path) -> None:
    model_of("tied").save_pretrained(tmp_path)
    head = OutputHead(str(tmp_path), np.array([], int))
    assert head.logits(np.zeros((2, 32), np.float32)).shape == (2, 0)


def test_a_folder_without_the_head_is_refused(tmp_path: Path) -> None:
    model_of("tied").config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"no .*lm_head.weight"):
        OutputHead(str(tmp_path), TOKENS)


@pytest.mark.parametrize("kind", ["tied", "untied", "with a bias"])
def test_plain_heads_are_accepted(kind: str) -> None:
    check_output_head(model_of(kind))


@pytest.mark.parametrize("kind", ["scaled", "capped"])
def test_other_heads_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="scales or caps the logits"):
        check_output_head(model_of(kind))
