"""Loads, saves and runs a causal language model of transformers."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from models.common.model_location import model_path
from models.language.description_trie import DescriptionTrie

# Tokens in a forward pass without gradients: enough to use two cores fully.
TOKENS_PER_BATCH = 4096


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and warnings off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def has_bfloat16() -> bool:
    """Return whether this machine multiplies bfloat16 in hardware.

    A CPU without the instructions emulates them, at a third of its speed in float32.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    can = torch.cpu.get_capabilities()
    return any(can.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def load_language_model(name: str, dtype: str) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer; `model_path` says what a name can be.

    The tokenizer has a padding token. Model and tokenizer agree on it and on the end token. The
    model generates greedily unless asked otherwise.

    Raises ValueError if the model is not there, or the tokenizer has no end token.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch_dtype = getattr(torch, dtype)
    path = model_path(name)
    tokenizer = load_tokenizer(name)
    with quiet_transformers():
        if path is not None and path.is_file():
            # A progress bar has no option.
            with redirect_stderr(StringIO()), _reading_once():
                read = AutoModelForCausalLM.from_pretrained(
                    str(path.parent),
                    gguf_file=path.name,
                    dtype=torch_dtype,
                    trust_remote_code=False,
                )
            # The weights are dequantized, but transformers does not save a model from GGUF.
            config = read.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            model = type(read)(config).to(torch_dtype)
            model.load_state_dict(read.state_dict())
        else:
            with _loading(name):
                model = AutoModelForCausalLM.from_pretrained(
                    path or name, dtype=torch_dtype, trust_remote_code=False
                )
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    for name, token in special.items():
        setattr(model.config, name, token)
    # A chat model's own sampling settings would become the defaults of every server.
    model.generation_config = GenerationConfig(**special)
    return model.eval(), tokenizer


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a language model; errors as of `load_language_model`."""
    from transformers import AutoTokenizer

    path = model_path(name)
    with quiet_transformers(), _loading(name):
        if path is not None and path.is_file():
            tokenizer = copy.deepcopy(_gguf_tokenizer(path, path.stat().st_mtime_ns))
        else:
            tokenizer = AutoTokenizer.from_pretrained(path or name, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of {name!r} has no end-of-text token; set eos_token in its "
            "tokenizer_config.json"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@functools.lru_cache(maxsize=1)
def _gguf_tokenizer(path: Path, modified: int) -> Any:
    """Read the tokenizer of a GGUF file once: it takes seconds."""
    from transformers import AutoTokenizer

    with _reading_once():
        return AutoTokenizer.from_pretrained(
            str(path.parent), gguf_file=path.name, trust_remote_code=False
        )


@contextmanager
def _reading_once() -> Iterator[None]:
    """Let transformers read a GGUF file once in a load, not for each module of the model: 3 x."""
    import gguf

    before = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    for name, function in before.items():
        setattr(gguf, name, functools.cache(function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(gguf, name, function)


@contextmanager
def _loading(name: str) -> Iterator[None]:
    """Turn errors of transformers into one line that says what can be given."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: code of the model would have to run
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(
            f"cannot load the language model {name!r}: {reason}. Give a model "
            "folder, a .gguf file, package:<module>, or a hub id that can be downloaded"
        ) from error


# The names, and patterns of names, of all files that `save_language_model` writes.
MODEL_FILES = (
    "config.json",
    "generation_config.json",
    *("model.safetensors", "model-*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    "chat_template.jinja",
)


def save_language_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save a model and its tokenizer as a Hugging Face folder, whole or not at all."""
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with quiet_transformers():
        model.save_pretrained(unfinished)
        tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def generate_completions(
    model: Any, tokenizer: Any, prompts: Sequence[str], max_tokens: int
) -> list[str]:
    """Return the free (unconstrained), greedy completion of each prompt, at most `max_tokens`."""
    import torch

    completions: list[str] = []
    for batch in _batches(_token_ids(tokenizer, prompts), max_tokens):
        ids, mask = left_padded(batch, tokenizer.pad_token_id)
        with torch.no_grad():
            found = model.generate(
                input_ids=torch.from_numpy(ids).to(model.device),
                attention_mask=torch.from_numpy(mask).to(model.device),
                max_new_tokens=max_tokens,
                do_sample=False,
            )
        completions += tokenizer.batch_decode(found[:, ids.shape[1] :], skip_special_tokens=True)
    return completions


def hidden_states(
    model: Any,
    texts: Sequence[Sequence[int]],
    lengths: np.ndarray,
    on_progress: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Return the hidden states after the final norm where beginnings of texts end.

    Texts are token ids, `lengths` [texts, p] are of p beginnings of each, in tokens; the states are
    [texts, p, width] float32. Texts in a row with a common start cost the start once.
    `on_progress` is called with the number of texts that are done.
    """
    import torch
    from transformers import DynamicCache

    states: list[np.ndarray] = []
    done = 0
    for batch, start in _with_common_start(texts):
        part = lengths[done : done + len(batch)]
        # The rest of each text holds the states that are asked for.
        start = min(start, int(part.min()) - 1)
        rests = [text[start:] for text in batch]
        longest = max(map(len, rests))
        ids = torch.tensor([[*rest, *[0] * (longest - len(rest))] for rest in rests])
        cache = DynamicCache()
        with torch.no_grad():
            if start:
                common = torch.tensor([batch[0][:start]], device=model.device)
                model.base_model(input_ids=common, past_key_values=cache, use_cache=True)
                cache.batch_repeat_interleave(len(batch))
            # What pads a text comes after it: causal attention does not see it.
            output = model.base_model(
                input_ids=ids.to(model.device),
                past_key_values=cache,
                use_cache=True,
                position_ids=torch.arange(start, start + longest, device=model.device)[None],
            )
        rows, places = torch.arange(len(batch))[:, None], torch.from_numpy(part - start - 1)
        states.append(output.last_hidden_state[rows, places].float().cpu().numpy())
        done += len(batch)
        on_progress(done)
    return np.concatenate(states)


def _with_common_start(
    texts: Sequence[Sequence[int]],
) -> Iterator[tuple[Sequence[Sequence[int]], int]]:
    """Yield texts in a row that have at least half of the first one in common, and how much."""
    begin = 0
    while begin < len(texts):
        first, end = texts[begin], begin + 1
        start = len(first)
        tokens = len(first)
        while end < len(texts) and tokens + len(texts[end]) <= TOKENS_PER_BATCH:
            same = _common_start(first, texts[end])
            if 2 * same < len(first):
                break
            start, end, tokens = min(start, same), end + 1, tokens + len(texts[end])
        yield texts[begin:end], start
        begin = end


def _common_start(one: Sequence[int], other: Sequence[int]) -> int:
    """Return the number of tokens with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def branch_log_probabilities(
    model: Any, tokenizer: Any, prompts: Sequence[str], trie: DescriptionTrie
) -> list[np.ndarray]:
    """Return the next-token log-probabilities at each branch, [prompts, k] float32.

    The whole trie is appended to the prompt and read in one pass: each token of it attends to the
    prompt and to its own ancestors only, and has the position of its depth. The model must take a
    four-dimensional attention mask, as models of transformers with softmax attention do.
    """
    import torch

    # The nodes are the places on the way to a branch; the root is the prompt's last token.
    nodes = sorted(
        {
            branch.path[:depth]
            for branch in trie.branches
            for depth in range(1, len(branch.path) + 1)
        },
        key=lambda path: (len(path), path),
    )
    index = {path: node for node, path in enumerate(nodes)}
    depth = np.array([len(path) for path in nodes], np.int64)  # [nodes]
    sees = np.zeros((len(nodes), len(nodes)), bool)  # [node, ancestor or itself]
    for path, node in index.items():
        sees[node, [index[path[:length]] for length in range(1, len(path) + 1)]] = True

    scores: list[list[np.ndarray]] = [[] for _ in trie.branches]
    texts = _token_ids(tokenizer, prompts) if trie.branches else []
    for batch in _batches(texts, len(nodes)):
        ids, mask = left_padded(batch, tokenizer.pad_token_id)  # [batch, length]
        rows, length = ids.shape
        ids = np.concatenate([ids, np.tile([path[-1] for path in nodes], (rows, 1))], axis=1)
        places = positions(mask)
        places = np.concatenate([places, places[:, -1:] + depth], axis=1)
        attends = np.zeros((rows, ids.shape[1], ids.shape[1]), bool)  # [batch, reader, read]
        attends[:, :length, :length] = np.tril(np.ones((length, length), bool))
        attends[:, length:, :length] = True
        attends[:, :, :length] &= mask[:, None].astype(bool)
        attends[:, length:, length:] = sees
        attends |= np.eye(ids.shape[1], dtype=bool)  # a softmax over nothing would be NaN
        columns = [length + index[b.path] if b.path else length - 1 for b in trie.branches]
        with torch.no_grad():
            logits = model(
                input_ids=torch.from_numpy(ids.astype(np.int64)).to(model.device),
                position_ids=torch.from_numpy(places).to(model.device),
                attention_mask=torch.from_numpy(attends[:, None]).to(model.device),
                logits_to_keep=torch.tensor(columns, device=model.device),
                use_cache=False,
            ).logits  # [batch, branches, vocabulary]
            log_probs = logits.float().log_softmax(dim=-1)
        for number, branch in enumerate(trie.branches):
            wanted = torch.from_numpy(branch.tokens).to(model.device)
            scores[number].append(log_probs[:, number, wanted].cpu().numpy())
    return [np.concatenate(parts) for parts in scores]


def _token_ids(tokenizer: Any, prompts: Sequence[str]) -> list[list[int]]:
    return [tokenizer(prompt)["input_ids"] for prompt in prompts]


def _batches(texts: Sequence[Sequence[int]], further: int) -> Iterator[Sequence[Sequence[int]]]:
    """Yield batches of similar cost, for texts that grow by `further` tokens each."""
    longest = max(map(len, texts), default=0) + further
    size = max(1, TOKENS_PER_BATCH // max(longest, 1))
    for start in range(0, len(texts), size):
        yield texts[start : start + size]


def left_padded(batch: Sequence[Sequence[int]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and the attention mask of a batch, both [batch, length] int64."""
    length = max(map(len, batch))
    ids = np.array([[pad] * (length - len(row)) + list(row) for row in batch], np.int64)
    mask = np.array([[0] * (length - len(row)) + [1] * len(row) for row in batch], np.int64)
    return ids, mask


def positions(mask: np.ndarray) -> np.ndarray:
    """Return each token's position in its own text, for a mask of left-padded texts."""
    return np.maximum(mask.cumsum(axis=1) - 1, 0)  # [batch, length]
