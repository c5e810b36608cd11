"""Fixtures of tests on Google Cloud: see the package."""

from collections.abc import Iterator

import pytest

from emulators.clouds import Cloud, Storage, cloud_emulators, storage_emulator

__all__ = ["Cloud", "Storage", "cloud", "storage"]


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    """Run a Cloud Storage emulator for a module."""
    with storage_emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """Run emulators of Cloud Storage and BigQuery for a module."""
    with cloud_emulators() as emulators:
        yield emulators
