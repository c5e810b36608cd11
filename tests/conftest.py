"""Fixtures that tests of several packages take, and which tests run when."""

import pytest

from emulators.fixtures import cloud, cloud_service, storage, storage_service

__all__ = ["cloud", "cloud_service", "storage", "storage_service"]


@pytest.hookimpl(tryfirst=True)  # before pytest deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start emulators."""
    for item in items:
        if "storage_service" in getattr(item, "fixturenames", ()):
            item.add_marker("emulator")
