"""The errors that a user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Flags or input can't be used; the message names the bad value and the way out."""


@contextmanager
def as_input_error(prefix: str = "") -> Iterator[None]:
    """Turn a ValueError of a model, which knows nothing of flags, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{prefix}{'; '.join(str(error).splitlines())}") from error
