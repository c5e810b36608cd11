"""The real engine with a tiny model, against transformers in float32."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.common.model_process import ModelProcess
from models.language.decoding.vllm_engine import engine_environment
from models.language.description_trie import DescriptionTrie
from models.language.language_model import (
    branch_log_probabilities,
    load_language_model,
    load_tokenizer,
)
from models.language.prompt import (
    BLOCK_TOKENS,
    Prompts,
    PromptTemplate,
    aligned_starts,
    completion_token_ids,
)
from tests.models.language.tiny_llm import save_tiny_llm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = ["green tea", "green tea, hot", "salt", "rye bread", "salted butter", "茶", "قهوة"]
TEMPLATE = PromptTemplate.parse("{filler}Earlier: {c1}\nLatest: {c2}\nNext:\n")
BLOCKED, N = [4], 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # vLLM has no attention kernel for heads of fewer than 32 dimensions.
    return save_tiny_llm(tmp_path_factory.mktemp("tiny"), width=64)


@pytest.fixture(scope="module")
def prompts(folder: Path) -> Prompts:
    starts = aligned_starts(load_tokenizer(str(folder)), TEMPLATE, NAMES)
    return Prompts(tuple(starts), tuple(NAMES), TEMPLATE.after)


@pytest.fixture(scope="module")
def decoder(folder: Path, prompts: Prompts) -> Iterator[ModelProcess]:
    """Return a decoder that can be asked what its engine can."""
    arguments = {
        "model": str(folder),
        "prompts": prompts,
        "blocked": BLOCKED,
        "n": N,
        "seed": 0,
        "engine_args": {"dtype": "float32"},
    }
    process = ModelProcess(
        "tests.models.language.decoding.open_decoder:OpenDecoder", arguments, engine_environment()
    )
    yield process
    process.close()


@pytest.fixture(scope="module")
def engine(decoder: ModelProcess) -> ModelProcess:
    return decoder


def test_hidden_states_are_those_that_the_output_head_reads(
    engine: ModelProcess, folder: Path
) -> None:
    import torch

    model, _ = load_language_model(str(folder), "float32")
    texts = [list(range(5, 25)), list(range(7, 90))]
    found = engine.call("last_hidden_states", texts)
    for text, state in zip(texts, found, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([text])).logits[0, -1]
            mine = model.get_output_embeddings()(torch.from_numpy(state))
        np.testing.assert_allclose(mine, logits, atol=1e-4)


def test_the_engine_listens_on_this_machine_alone(decoder: ModelProcess) -> None:
    assert decoder.call("listens_at") <= {"127.0.0.1", "::1"}


def test_the_engine_reports_nothing_to_its_makers(decoder: ModelProcess) -> None:
    decoder.call("last_hidden_states", [[5, 6]])
    assert decoder.call("telemetry") == {"huggingface_hub": False, "vllm": False}
    assert decoder.call("lookups") == []


def test_what_is_known_of_a_prefix_does_not_change_an_answer(engine: ModelProcess) -> None:
    texts = [list(range(5, 105))]
    engine.call("forget")
    first = engine.call("last_hidden_states", texts)
    engine.call("last_hidden_states", [list(range(5, 70))])
    engine.call("forget")
    np.testing.assert_array_equal(engine.call("last_hidden_states", texts), first)


def test_two_shards_of_the_model_compute_what_one_does(engine: ModelProcess, folder: Path) -> None:
    texts = [list(range(5, 105)), [7, 8]]
    arguments = {"dtype": "float32", "tensor_parallel_size": 2}
    process = ModelProcess(
        "models.language.decoding.vllm_engine:VllmEngine",
        {"model": str(folder), "seed": 0, "engine_args": arguments},
        engine_environment() | {"VLLM_CPU_OMP_THREADS_BIND": "0|1"},  # a core for each
    )
    found = process.call("last_hidden_states", texts)
    process.close()
    np.testing.assert_allclose(found, engine.call("last_hidden_states", texts), atol=1e-4)


def pairs() -> tuple[np.ndarray, np.ndarray]:
    c1, c2 = np.meshgrid(np.arange(7), np.arange(7), indexing="ij")
    return c1.ravel(), c2.ravel()


def test_decoder_finds_the_constrained_distribution(
    decoder: ModelProcess, folder: Path, prompts: Prompts
) -> None:
    c1, c2 = pairs()
    clusters, probabilities = decoder.call("decode", c1, c2)
    whole = constrained_distribution(folder, prompts, c1, c2)
    np.testing.assert_array_equal(clusters, np.argsort(-whole, axis=1, kind="stable")[:, :N])
    np.testing.assert_allclose(probabilities, np.sort(whole, axis=1)[:, ::-1][:, :N], atol=1e-4)


def constrained_distribution(
    folder: Path, prompts: Prompts, c1: np.ndarray, c2: np.ndarray
) -> np.ndarray:
    """Score every description token by token with transformers in float32, [pairs, M]."""
    model, tokenizer = load_language_model(str(folder), "float32")
    texts = [prompts.render(a, b) for a, b in zip(c1.tolist(), c2.tolist(), strict=True)]
    ids = [completion_token_ids(tokenizer, texts[0], name) for name in NAMES]
    trie = DescriptionTrie(ids, tokenizer.eos_token_id)
    excluded = np.zeros((len(c1), len(NAMES)), bool)
    excluded[:, BLOCKED] = True
    excluded[np.arange(len(c1)), c1] = excluded[np.arange(len(c1)), c2] = True
    scores = branch_log_probabilities(model, tokenizer, texts, trie)
    return np.exp(trie.log_probabilities(scores, excluded))


def test_order_and_batch_of_pairs_change_rounding_only(decoder: ModelProcess) -> None:
    c1, c2 = pairs()
    together = decoder.call("decode", c1, c2)
    backwards = decoder.call("decode", c1[::-1], c2[::-1])
    alone = [decoder.call("decode", c1[at : at + 1], c2[at : at + 1]) for at in range(len(c1))]
    for other in (
        [part[::-1] for part in backwards],
        [np.concatenate(parts) for parts in zip(*alone, strict=True)],
    ):
        np.testing.assert_array_equal(other[0], together[0])
        np.testing.assert_allclose(other[1], together[1], atol=1e-6)


def test_same_pairs_give_the_same_bits_after_any_others(decoder: ModelProcess) -> None:
    c1, c2 = pairs()
    first = decoder.call("decode", c1[:7], c2[:7])
    decoder.call("decode", c1[7:], c2[7:])
    for one, other in zip(first, decoder.call("decode", c1[:7], c2[:7]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pairs_of_a_row_compute_their_shared_prefix_once(folder: Path, prompts: Prompts) -> None:
    tokenizer = load_tokenizer(str(folder))
    row = [tokenizer(prompts.render(0, c2))["input_ids"] for c2 in range(7)]
    shared = next(at for at, tokens in enumerate(zip(*row, strict=False)) if len(set(tokens)) > 1)
    assert shared % BLOCK_TOKENS == 0
