"""Types of flags: functions from the text of a value to the value, which refuse a bad one."""

import argparse
import codecs
import datetime
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

# Texts under such names, and the tokens of Hugging Face, GitHub, Google and AWS.
_SECRET_NAME = r"(?i)^token$|(hf|auth|access|api)_?token$|secret|passw|(api|access|private)_?key"
_SECRET = r"hf_\w{20}|gh[opsu]_\w{20}|AIza[\w-]{30}|ya29\.|AKIA\w{16}"


def whole_number(least: int, most: float = math.inf) -> Callable[[str], int]:
    """Return the type of a whole number from `least` to `most`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            limit = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {limit}")
        return value

    return parse


def number(least: float = -math.inf, most: float = math.inf) -> Callable[[str], float]:
    """Return the type of a number from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            limit = f" from {least:g} to {most:g}" if most < math.inf else f" of at least {least:g}"
            raise argparse.ArgumentTypeError(
                f"{text!r} is not a number{limit if least > -math.inf else ''}"
            )
        return value

    return parse


def moment(text: str) -> str:
    """Check a date or time in ISO 8601, UTC unless it says otherwise; return it in UTC."""
    try:
        time = datetime.datetime.fromisoformat(text)
        time = time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a date like 2026-01-31 nor a time like 2026-01-31T12:00:00Z"
        ) from None
    return time.isoformat()


def microseconds(time: str | None) -> int | None:
    """Return a `moment` in microseconds since 1970."""
    if time is None:
        return None
    since = datetime.datetime.fromisoformat(time) - datetime.datetime.fromtimestamp(0, datetime.UTC)
    return since // datetime.timedelta(microseconds=1)


def encoding(text: str) -> str:
    """Check the name of a text encoding."""
    try:
        codecs.lookup(text)
    except LookupError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no encoding that Python knows; give one like latin-1, cp1252 or utf-16"
        ) from None
    return text


def matching(pattern: str, example: str) -> Callable[[str], str]:
    """Return the type of a text that is empty or matches a pattern."""

    def parse(text: str) -> str:
        if text and not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not of the form {example}")
        return text

    return parse


def engine_arguments(text: str) -> str:
    """Check a JSON object without secrets, which a manifest would keep; return its keys sorted."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('it is not a JSON object like {"dtype": "auto"}')
    if (name := _secret(value, "")) is not None:
        raise argparse.ArgumentTypeError(
            f"{name} holds a secret, which would be stored; set it in the environment, such as "
            "HF_TOKEN"
        )
    return json.dumps(value, sort_keys=True)


def _secret(value: object, name: str) -> str | None:
    """Return the name of the first text in a JSON value that looks like a secret."""
    if isinstance(value, str) and value:
        return name if re.search(_SECRET_NAME, name) or re.match(_SECRET, value) else None
    parts: list[tuple[str, object]] = []
    if isinstance(value, dict):
        parts = list(value.items())
    elif isinstance(value, list):
        parts = [(name, part) for part in value]
    return next((found for key, part in parts if (found := _secret(part, key)) is not None), None)


def semicolon_list(text: str) -> list[str]:
    """Split a list at semicolons: descriptions of clusters contain commas."""
    return [part.strip() for part in text.split(";") if part.strip()]


def model_location(value: str) -> str:
    """Return the absolute path of a local model, which later stages may read from elsewhere."""
    path = Path(value).expanduser()
    return str(path.absolute()) if path.exists() else value
