"""Fixtures that tests of several packages take, and which tests run when."""

import gc

import pytest
from hypothesis import settings

from emulators.fixtures import cloud, cloud_service, storage, storage_service
from tests import remembering_beam

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

__all__ = ["cloud", "cloud_service", "storage", "storage_service"]


@pytest.hookimpl(tryfirst=True)  # before pytest deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start emulators, and start the longest files first."""
    for item in items:
        if "storage_service" in getattr(item, "fixturenames", ()):
            item.add_marker("emulator")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Leave the imported modules out of every later garbage collection: 7% of the CPU."""
    gc.collect()
    gc.freeze()


def pytest_configure() -> None:
    """Save half of the CPU of each pipeline."""
    remembering_beam.remember()
