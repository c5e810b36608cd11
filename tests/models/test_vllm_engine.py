"""The real engine with a tiny model, against transformers in float32."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.child_process import ChildProcess
from models.vllm_engine import engine_environment
from tests.models.tiny_llm import save_tiny_llm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ["green tea", "green tea, hot", "salt", "rye bread", "salted butter", "茶", "قهوة"]
TEMPLATE = "Earlier: {c1}\nLatest: {c2}\nNext:\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM has no attention kernel for heads of fewer than 32 dimensions.
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"), width=64)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[ChildProcess]:
    process = ChildProcess(
        "models.vllm_engine:VllmEngine",
        {"model": str(folder), "seed": 0, "engine_args": {"dtype": "float32"}},
        engine_environment(),
    )
    yield process
    process.close()


def test_log_probabilities_of_many_tokens_are_those_of_the_model(
    engine: ChildProcess, folder: Path
) -> None:
    import torch

    from models.language_model import load_language_model

    model, _ = load_language_model(str(folder), "float32")
    prompts = [list(range(5, 25)), list(range(7, 90))]
    vocabulary = model.config.vocab_size
    tokens = [np.arange(min(vocabulary, 300)), np.array([3, 1])]
    found = engine.call("log_probabilities", prompts, tokens)
    for prompt, ids, mine in zip(prompts, tokens, found, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([prompt])).logits[0, -1]
        expected = torch.log_softmax(logits.float(), -1).numpy()[ids]
        np.testing.assert_allclose(mine, expected, atol=1e-4)


def test_what_is_known_of_a_prefix_does_not_change_an_answer(engine: ChildProcess) -> None:
    prompt, tokens = [list(range(5, 105))], [np.arange(50)]
    engine.call("forget")
    first = engine.call("log_probabilities", prompt, tokens)[0]
    engine.call("log_probabilities", [list(range(5, 70))], [np.arange(3)])
    engine.call("forget")
    np.testing.assert_array_equal(engine.call("log_probabilities", prompt, tokens)[0], first)


def test_decoder_finds_the_constrained_distribution(folder: Path) -> None:
    from models.description_trie import DescriptionTrie
    from models.language_model import branch_log_probabilities, load_language_model
    from models.prompt import PromptTemplate, completion_token_ids

    blocked, n = [4], 3
    decoder = ChildProcess(
        "models.novelty_decoder:NoveltyDecoder",
        {
            "model": str(folder),
            "descriptions": NAMES,
            "template": TEMPLATE,
            "blocked": blocked,
            "n": n,
            "seed": 0,
            "engine_args": {"dtype": "float32"},
        },
        engine_environment(),
    )
    c1, c2 = (pair.ravel() for pair in np.meshgrid(np.arange(7), np.arange(7), indexing="ij"))
    clusters, probabilities = decoder.call("decode", c1, c2)
    decoder.close()

    model, tokenizer = load_language_model(str(folder), "float32")
    template = PromptTemplate.parse(TEMPLATE)
    prompts = [template.render(NAMES[a], NAMES[b]) for a, b in zip(c1, c2, strict=True)]
    ids = [completion_token_ids(tokenizer, prompts[0], name) for name in NAMES]
    trie = DescriptionTrie(ids, tokenizer.eos_token_id)
    excluded = np.zeros((len(c1), 7), bool)
    excluded[:, blocked] = True
    excluded[np.arange(len(c1)), c1] = excluded[np.arange(len(c1)), c2] = True
    scores = branch_log_probabilities(model, tokenizer, prompts, trie)
    whole = np.exp(trie.log_probabilities(scores, excluded))
    np.testing.assert_array_equal(clusters, np.argsort(-whole, axis=1, kind="stable")[:, :n])
    np.testing.assert_allclose(probabilities, np.sort(whole, axis=1)[:, ::-1][:, :n], atol=1e-4)
