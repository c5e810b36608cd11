"""What the language model reads and what it may answer, as text and as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import Any

# Instruction and older interest first, newest interest late, a short end: a server that caches
# prefixes then computes everything up to c1 once for all the pairs that share it. The newline at
# the end is where tokenizers cut, so that a completion is tokenised as if it stood alone.
DEFAULT_TEMPLATE = (
    "Someone keeps discovering new interests, each named by a few keywords. "
    "Name the new interest that comes next.\n"
    "Earlier: {c1}\n"
    "Latest: {c2}\n"
    "Next:\n"
)


@dataclass(frozen=True)
class PromptTemplate:
    """The prompt around the descriptions of a user's two latest interests.

    Attributes
    ----------
    before, between, after : str
        The text before the older interest, between the two, and after the newest.

    Examples
    --------
    >>> PromptTemplate.parse("{c1}, then {c2}, then ").render("tea", "coffee")
    'tea, then coffee, then '
    """

    before: str
    between: str
    after: str

    @staticmethod
    def parse(text: str) -> PromptTemplate:
        """Read a template with one ``{c1}`` (older interest) and, after it, one ``{c2}`` (newest).

        Any other brace is written twice, as in ``str.format``.

        Raises
        ------
        ValueError
            If the braces do not match, or the placeholders are not ``{c1}`` and then ``{c2}``.
        """
        try:
            parts = list(Formatter().parse(text))
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
                "(older interest) and after it one {c2} (newest interest), other braces doubled"
            )
        return PromptTemplate(*literals)

    def render(self, description1: str, description2: str) -> str:
        """Return the prompt for an older and a newest interest."""
        return self.before + description1 + self.between + description2 + self.after


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
