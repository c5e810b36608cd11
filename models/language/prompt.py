"""Prompts and completions of the language model, as text and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from models.language.description_trie import DescriptionTrie

# The instruction and the older interest come first and the newest interest late: a server that
# caches prefixes computes everything up to c1 once for all pairs of c1. Tokenizers cut at the final
# newline, so that a completion has the same tokens after any prompt. Everything before c2 fits into
# one block of the cache.
DEFAULT_TEMPLATE = (
    "{filler}Name the new interest that comes next.\nEarlier: {c1}\nLatest: {c2}\nNext:\n"
)
# vLLM caches prefixes in blocks of 16 tokens, of at least 32 on the CPU.
BLOCK_TOKENS = 32
_FILLERS = (" .", " -", "\n", ".", "\n\n", " a")  # the first that is one token
_PROBES = 8


@dataclass(frozen=True)
class PromptTemplate:
    """The prompt around the descriptions of a user's two latest interests.

    >>> PromptTemplate.parse("{c1}, then {c2}, then ").start("tea")
    'tea, then '
    """

    before: str  # the text before the older interest
    between: str
    after: str  # the text after the newest interest
    filled: bool = False  # whether prompts begin with a filler, see `aligned_starts`

    @staticmethod
    def parse(text: str) -> PromptTemplate:
        """Read a template with one ``{c1}`` (older interest) and, after it, one ``{c2}`` (newest).

        It may begin with ``{filler}``. Other braces are doubled, as in ``str.format``.

        Raises ValueError if the braces do not match, or the placeholders are not ``{c1}`` and then
        ``{c2}``.
        """
        filled = text.startswith("{filler}")
        try:
            parts = list(Formatter().parse(text.removeprefix("{filler}")))
        except ValueError as error:
            raise ValueError(
                f"prompt template {text!r}: {error}; write a literal brace as '{{{{' or '}}}}'"
            ) from error
        literals, found = [""], []
        for literal, name, form, conversion in parts:
            literals[-1] += literal
            if name is not None:
                found.append(
                    name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                )
                literals.append("")
        if found != ["c1", "c2"]:
            shown = ", ".join(f"{{{name}}}" for name in found) or "none"
            raise ValueError(
                f"prompt template {text!r} has the placeholders: {shown}; write exactly one {{c1}} "
                "(older interest) and after it one {c2} (newest interest), if you like {filler} at "
                "the very start, and other braces doubled"
            )
        before, between, after = literals
        return PromptTemplate(before, between, after, filled)

    def start(self, older: str) -> str:
        """Return the prompt up to the newest interest, without a filler."""
        return self.before + older + self.between


@dataclass(frozen=True)
class Prompts:
    """The prompts of all pairs of M clusters."""

    starts: tuple[str, ...]  # [M] the prompt of each older interest c1 up to the newest
    descriptions: tuple[str, ...]  # [M]
    after: str  # the end of each prompt

    def render(self, c1: int, c2: int) -> str:
        """Return the prompt for an older and a newest interest."""
        return self.starts[c1] + self.descriptions[c2] + self.after


def aligned_starts(
    tokenizer: Any, template: PromptTemplate, descriptions: Sequence[str]
) -> list[str]:
    """Return the start of each cluster's prompts as older interest, [M], with filler if wanted.

    The filler makes the shared start of a cluster's prompts a multiple of `BLOCK_TOKENS` long, so
    that a server computes it once. A cluster that no filler fits has none, which costs only time.
    """
    starts = [template.start(description) for description in descriptions]
    if not template.filled:
        return starts
    probes = list(dict.fromkeys(descriptions[:: max(1, len(descriptions) // _PROBES)]))
    probes = [*probes, "a", "1"]  # whatever descriptions begin with

    def shared(texts: Sequence[str]) -> list[int]:
        """Count the common leading tokens of the prompts with each start."""
        ids = tokenizer([text + probe + template.after for text in texts for probe in probes])
        rows = iter(ids["input_ids"])
        return [_common([next(rows) for _ in probes]) for _ in texts]

    missing = [-length % BLOCK_TOKENS for length in shared(starts)]
    aligned = dict.fromkeys((i for i, count in enumerate(missing) if count == 0), "")
    for unit in _FILLERS:
        open_ = [i for i in range(len(starts)) if i not in aligned]
        if not open_:
            break
        fillers = [unit * missing[i] for i in open_]
        found = shared([filler + starts[i] for i, filler in zip(open_, fillers, strict=True)])
        for i, filler, length in zip(open_, fillers, found, strict=True):
            if length % BLOCK_TOKENS == 0:
                aligned[i] = filler
    return [aligned.get(i, "") + start for i, start in enumerate(starts)]


def _common(rows: Sequence[Sequence[int]]) -> int:
    """Count the common leading tokens of rows."""
    return next(
        (at for at, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1),
        min(map(len, rows)),
    )


def completion_token_ids(tokenizer: Any, prompt: str, completion: str) -> list[int]:
    """Return the token ids of prompt + completion after those of the prompt, no special tokens.

    Raises ValueError if the tokenizer merges the end of the prompt with the start of the
    completion.
    """
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = tokenizer(prompt + completion, add_special_tokens=False)["input_ids"]
    if ids[: len(prompt_ids)] != prompt_ids:
        raise ValueError(
            f"the tokenizer merges the end of the prompt {prompt[-20:]!r} with the start of the "
            f"completion {completion[:20]!r}; end the prompt template with a newline"
        )
    return list(ids[len(prompt_ids) :])


def description_token_ids(
    tokenizer: Any, prompt: str, descriptions: Sequence[str]
) -> list[list[int]]:
    """Return the tokens of each description after a prompt; see `completion_token_ids`."""
    return [completion_token_ids(tokenizer, prompt, text) for text in descriptions]


def description_trie(tokenizer: Any, prompts: Prompts) -> DescriptionTrie:
    """Return the trie of the descriptions' tokens after a prompt.

    Raises ValueError if the tokenizer cannot separate two descriptions, or merges prompt and
    description.
    """
    ids = description_token_ids(tokenizer, prompts.render(0, 0), prompts.descriptions)
    return DescriptionTrie(ids, tokenizer.eos_token_id)
