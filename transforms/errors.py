"""Errors that the user can fix."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A flag or an input is invalid; the message names the value and a way to fix it."""


@contextmanager
def as_input_error(prefix: str = "") -> Iterator[None]:
    """Turn a ValueError, of a model that knows no flags, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{prefix}{'; '.join(str(error).splitlines())}") from error
