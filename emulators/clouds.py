"""Emulators of Google Cloud, as `with` blocks."""

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
        What Google's libraries read.
    """

    environment: dict[str, str]

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Set the environment of this process while a block lasts."""
        with patch.dict(os.environ, self.environment):
            yield

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
    """Run a Cloud Storage emulator; the environment of this process stays as it is."""
    with storage_server() as url, credentials() as key:
        yield Storage(
            {
                "GOOGLE_APPLICATION_CREDENTIALS": str(key),
                "GOOGLE_CLOUD_PROJECT": PROJECT,
                "STORAGE_EMULATOR_HOST": url,
            }
        )


@contextmanager
def bigquery_emulator(storage: Storage) -> Iterator[Cloud]:
    """Run a BigQuery emulator beside one of Cloud Storage; the environment stays as it is."""
    with bigquery_server(storage.environment["STORAGE_EMULATOR_HOST"]) as (rest, grpc):
        yield Cloud(
            {
                **storage.environment,
                "BIGQUERY_EMULATOR_HOST": rest,
                "BIGQUERY_STORAGE_EMULATOR_HOST": grpc,
            }
        )


@contextmanager
def cloud_emulators() -> Iterator[Cloud]:
    """Run emulators of Cloud Storage and BigQuery, and set the environment of this process."""
    with storage_emulator() as storage, bigquery_emulator(storage) as cloud, cloud.in_use():
        yield cloud
