"""Fixtures of tests on Google Cloud: see the package.

The servers start once in a test process. The environment points to them only while a module
runs that asks for them.
"""

from collections.abc import Iterator

import pytest

from emulators.clouds import Cloud, Storage, bigquery_emulator, storage_emulator

__all__ = ["Cloud", "Storage", "cloud", "cloud_service", "storage", "storage_service"]


@pytest.fixture(scope="session")
def storage_service() -> Iterator[Storage]:
    """Run a Cloud Storage emulator."""
    with storage_emulator() as storage:
        yield storage


@pytest.fixture(scope="session")
def cloud_service(storage_service: Storage) -> Iterator[Cloud]:
    """Run a BigQuery emulator beside that of Cloud Storage."""
    with bigquery_emulator(storage_service) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def storage(storage_service: Storage) -> Iterator[Storage]:
    """Point a module to a Cloud Storage emulator."""
    with storage_service.in_use():
        yield storage_service


@pytest.fixture(scope="module")
def cloud(cloud_service: Cloud) -> Iterator[Cloud]:
    """Point a module to emulators of Cloud Storage and BigQuery."""
    with cloud_service.in_use():
        yield cloud_service
