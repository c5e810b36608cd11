"""What the language model reads and what it may answer, as text and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from models.language.description_trie import DescriptionTrie

# Instruction and older interest first, newest interest late, a short end: a server that caches
# prefixes then computes everything up to c1 once for all the pairs that share it. The newline at
# the end is where tokenizers cut, so that a completion is tokenised as if it stood alone. What
# comes before c2 fits into one block of the cache: fine-tuning tells the model the rest.
DEFAULT_TEMPLATE = (
    "{filler}Name the new interest that comes next.\nEarlier: {c1}\nLatest: {c2}\nNext:\n"
)
# Servers cache whole blocks of a prefix. vLLM's are of 16 tokens, of at least 32 on the CPU.
BLOCK_TOKENS = 32
_FILLERS = (" .", " -", "\n", ".", "\n\n", " a")  # the first that a tokenizer takes as a token each
_PROBES = 8


@dataclass(frozen=True)
class PromptTemplate:
    """The prompt around the descriptions of a user's two latest interests.

    Attributes
    ----------
    before, between, after : str
        The text before the older interest, between the two, and after the newest.
    filled : bool
        Whether prompts begin with a filler; see `aligned_starts`.

    Examples
    --------
    >>> PromptTemplate.parse("{c1}, then {c2}, then ").start("tea")
    'tea, then '
    """

    before: str
    between: str
    after: str
    filled: bool = False

    @staticmethod
    def parse(text: str) -> PromptTemplate:
        """Read a template with one ``{c1}`` (older interest) and, after it, one ``{c2}`` (newest).

        It may begin with ``{filler}``. Any other brace is written twice, as in ``str.format``.

        Raises
        ------
        ValueError
            If the braces do not match, or the placeholders are not ``{c1}`` and then ``{c2}``.
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
    """The prompts of all pairs of clusters.

    Attributes
    ----------
    starts : tuple of str
        [M] the prompt of each older interest c1 up to the newest.
    descriptions : tuple of str
        [M] of the clusters.
    after : str
        The end of every prompt.
    """

    starts: tuple[str, ...]
    descriptions: tuple[str, ...]
    after: str

    def render(self, c1: int, c2: int) -> str:
        """Return the prompt for an older and a newest interest."""
        return self.starts[c1] + self.descriptions[c2] + self.after


def aligned_starts(
    tokenizer: Any, template: PromptTemplate, descriptions: Sequence[str]
) -> list[str]:
    """Return the start of each cluster's prompts as older interest, with the template's filler.

    The filler makes what all prompts of a cluster share a multiple of `BLOCK_TOKENS` long. A server
    then computes it once; otherwise each prompt would compute anew what overhangs the last block.

    Returns
    -------
    [M] of `Prompts`. A cluster for which no filler fits has none: that costs time alone.
    """
    starts = [template.start(description) for description in descriptions]
    if not template.filled:
        return starts
    probes = list(dict.fromkeys(descriptions[:: max(1, len(descriptions) // _PROBES)]))
    probes = [*probes, "a", "1"]  # whatever the descriptions begin with

    def shared(texts: Sequence[str]) -> list[int]:
        """Count the tokens that all prompts with a start have in common."""
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
    """Count the leading tokens that rows have in common."""
    return next(
        (at for at, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1),
        min(map(len, rows)),
    )


def completion_token_ids(tokenizer: Any, prompt: str, completion: str) -> list[int]:
    """Tokenise a completion as the tokenizer itself does where it follows the prompt.

    Parameters
    ----------
    tokenizer
        A Hugging Face tokenizer.
    prompt, completion : str
        The text read and the text to be answered.

    Returns
    -------
    list of int
        The ids of prompt + completion without those of the prompt; no special tokens.

    Raises
    ------
    ValueError
        If the tokenizer merges the end of the prompt with the start of the completion.
    """
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    ids = tokenizer(prompt + completion, add_special_tokens=False)["input_ids"]
    if ids[: len(prompt_ids)] != prompt_ids:
        raise ValueError(
            f"the tokenizer merges the end of the prompt {prompt[-20:]!r} with the start of the "
            f"completion {completion[:20]!r}; end the prompt template with a newline"
        )
    return list(ids[len(prompt_ids) :])


def description_trie(tokenizer: Any, prompts: Prompts) -> DescriptionTrie:
    """Return the trie of the descriptions' tokens, as they stand after the prompts.

    Raises
    ------
    ValueError
        If the tokenizer can't tell two descriptions apart, or merges prompt and description.
    """
    some = prompts.render(0, 0)
    return DescriptionTrie(
        [completion_token_ids(tokenizer, some, text) for text in prompts.descriptions],
        tokenizer.eos_token_id,
    )
