"""Fixtures that tests of several packages take."""

from emulators.fixtures import cloud, storage

__all__ = ["cloud", "storage"]
