import json

import numpy as np
import pytest

from models.language import language_model
from models.language.description_trie import DescriptionTrie
from models.language.language_model import (
    branch_log_probabilities,
    generate_completions,
    has_bfloat16,
    hidden_states,
    load_language_model,
    save_language_model,
)
from tests.models.language.tiny_llm import save_tiny_llm

PROMPTS = ["Earlier: green tea\nNext:\n", "Latest: a much longer interest, heist, opera\nNext:\n"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def loaded(folder):
    return load_language_model(str(folder), "float32")


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_model_that_brings_its_own_code_is_refused_and_the_code_does_not_run(tmp_path):
    folder, ran = save_tiny_llm(tmp_path / "model"), tmp_path / "ran"
    (folder / "theirs.py").write_text(f"open({str(ran)!r}, 'w')\nclass Theirs: pass\n")
    names = {"AutoConfig": "theirs.Theirs", "AutoModelForCausalLM": "theirs.Theirs"}
    edit_json(folder / "config.json", auto_map=names, model_type="theirs")
    with pytest.raises(ValueError, match=r"^cannot load the language model .* custom code"):
        load_language_model(str(folder), "float32")
    assert not ran.exists()


def test_weights_come_in_the_type_asked_for(folder):
    model, _ = load_language_model(str(folder), "bfloat16")
    assert {str(weights.dtype) for weights in model.parameters()} == {"torch.bfloat16"}


def test_a_saved_model_loads_with_the_same_weights_and_saves_to_the_same_bytes(loaded, tmp_path):
    for name in ("first", "second"):
        save_language_model(*loaded, tmp_path / name)
        loaded = load_language_model(str(tmp_path / name), "float32")
    files = [
        sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("first", "second")
    ]
    assert files[0] == files[1]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files[0])
    for name in files[0]:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_saving_replaces_what_was_there(loaded, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "stale.bin").touch()
    save_language_model(*loaded, tmp_path / "model")
    assert not (tmp_path / "model" / "stale.bin").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_tokenizer_without_padding_pads_with_its_end_token(tmp_path):
    folder = save_tiny_llm(tmp_path)
    edit_json(folder / "tokenizer_config.json", pad_token=None)
    model, tokenizer = load_language_model(str(folder), "float32")
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == model.config.pad_token_id


def test_a_tokenizer_without_an_end_token_is_refused(tmp_path):
    folder = save_tiny_llm(tmp_path)
    edit_json(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ValueError, match="no end-of-text token"):
        load_language_model(str(folder), "float32")


def test_sampling_settings_of_a_chat_model_are_dropped(tmp_path):
    folder = save_tiny_llm(tmp_path)
    edit_json(folder / "generation_config.json", do_sample=True, temperature=0.6, top_p=0.9)
    model, tokenizer = load_language_model(str(folder), "float32")
    assert not model.generation_config.do_sample
    assert model.generation_config.temperature is None
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_a_hub_model_out_of_reach_says_what_else_can_be_given(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"'nobody/nothing': .*\. Give a model folder"):
        load_language_model("nobody/nothing", "float32")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": True}, True),
    ],
)
def test_bfloat16_is_used_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bfloat16() == expected


def test_completions_are_those_of_choosing_the_likeliest_token_again_and_again(loaded):
    import torch

    model, tokenizer = loaded
    expected = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        for _ in range(6):
            with torch.no_grad():
                ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
            if ids[-1] == tokenizer.eos_token_id:
                break
        completion = ids[len(tokenizer(prompt)["input_ids"]) :]
        expected.append(tokenizer.decode(completion, skip_special_tokens=True))
    assert generate_completions(model, tokenizer, PROMPTS, 6) == expected


@pytest.mark.parametrize("tokens_per_batch", [1, 4096])
def test_branch_scores_are_those_of_reading_prompt_and_path_alone(
    loaded, monkeypatch, tokens_per_batch
):
    import torch

    monkeypatch.setattr("models.language.language_model.TOKENS_PER_BATCH", tokens_per_batch)
    model, tokenizer = loaded
    texts = ["tea", "tea, green", "tea, black", "tea, green, chess", "opera", "chess, tea", "chess"]
    trie = DescriptionTrie([tokenizer(text)["input_ids"] for text in texts], tokenizer.eos_token_id)
    found = branch_log_probabilities(model, tokenizer, PROMPTS, trie)
    assert max(len(branch.path) for branch in trie.branches) > 1
    for branch, scores in zip(trie.branches, found, strict=True):
        for prompt, row in zip(PROMPTS, scores, strict=True):
            ids = torch.tensor([[*tokenizer(prompt)["input_ids"], *branch.path]])
            with torch.no_grad():
                log_probs = model(ids).logits[0, -1].log_softmax(-1)
            np.testing.assert_allclose(row, log_probs[branch.tokens].numpy(), atol=1e-5)


def test_one_description_needs_no_scores(loaded):
    assert branch_log_probabilities(*loaded, PROMPTS, DescriptionTrie([[5, 6]], 0)) == []


@pytest.mark.parametrize("most", [1, 20, 10_000])
def test_a_state_is_that_of_the_beginning_alone(loaded, monkeypatch, most):
    """Neither what follows in the text, nor another text in the batch, changes it."""
    monkeypatch.setattr(language_model, "TOKENS_PER_BATCH", most)
    model, _ = loaded
    texts = [[5, 6, 7, 8], [5, 6, 7, 9, 10], [5, 6, 7], [9, 10], [11, 12, 13], [11, 12, 13, 14]]
    lengths = [(2, 4), (4, 5), (3, 3), (1, 2), (2, 3), (3, 4)]
    progress = []
    found = hidden_states(model, texts, np.array(lengths), progress.append)
    assert progress[-1] == len(texts)
    for text, asked, states in zip(texts, lengths, found, strict=True):
        for length, state in zip(asked, states, strict=True):
            [[alone]] = hidden_states(model, [text[:length]], np.array([[length]]))
            np.testing.assert_allclose(state, alone, atol=1e-5)
