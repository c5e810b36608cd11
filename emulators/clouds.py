"""Emulators of Google Cloud with the environment set, as a `with` block."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from emulators.credentials import credentials
from emulators.servers import PROJECT, bigquery_server, storage_server


@dataclass(frozen=True)
class Storage:
    """A Cloud Storage emulator.

    Attributes
    ----------
    environment
        What Google's libraries read; it is set in this process too while the block lasts.
    """

    environment: dict[str, str]

    @property
    def bucket(self) -> str:
        """Make a bucket and return its name, without gs://."""
        from google.cloud import storage

        return storage.Client().create_bucket(f"bucket-{uuid.uuid4().hex[:12]}").name


@dataclass(frozen=True)
class Cloud(Storage):
    """Emulators of Cloud Storage and BigQuery."""

    @property
    def dataset(self) -> str:
        """Make a dataset and return its name, `project.dataset`."""
        from google.cloud import bigquery

        name = f"{PROJECT}.dataset_{uuid.uuid4().hex[:12]}"
        bigquery.Client().create_dataset(name)
        return name


@contextmanager
def storage_emulator() -> Iterator[Storage]:
    """Run a Cloud Storage emulator."""
    with storage_server() as url, credentials() as key:
        environment = _common(url, str(key))
        with patch.dict(os.environ, environment):
            yield Storage(environment)


@contextmanager
def cloud_emulators() -> Iterator[Cloud]:
    """Run emulators of Cloud Storage and BigQuery."""
    with storage_server() as url, bigquery_server(url) as (rest, grpc), credentials() as key:
        environment = {
            **_common(url, str(key)),
            "BIGQUERY_EMULATOR_HOST": rest,
            "BIGQUERY_STORAGE_EMULATOR_HOST": grpc,
        }
        with patch.dict(os.environ, environment):
            yield Cloud(environment)


def _common(storage_url: str, key: str) -> dict[str, str]:
    return {
        "GOOGLE_APPLICATION_CREDENTIALS": key,
        "GOOGLE_CLOUD_PROJECT": PROJECT,
        "STORAGE_EMULATOR_HOST": storage_url,
    }
