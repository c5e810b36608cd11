"""Fixtures that tests of several packages take."""

from tests.emulators.fixtures import cloud, storage

__all__ = ["cloud", "storage"]
