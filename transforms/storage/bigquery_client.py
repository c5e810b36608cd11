"""BigQuery: table names, the clients of its two APIs, and errors that the user can fix.

Google's libraries find credentials in the environment. The address of an emulator comes from there
too: BIGQUERY_EMULATOR_HOST for the REST API (the library reads it), and
BIGQUERY_STORAGE_EMULATOR_HOST (host:port) for the Storage Read API. The libraries are imported
where they are used, because that takes seconds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transforms.errors import InputError

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from google.api_core.retry import Retry
    from google.cloud import bigquery, bigquery_storage_v1

RETRY_SECONDS = 300.0  # for which a request is retried while the service is unavailable

_CREDENTIALS = (
    "credentials: run `gcloud auth application-default login`, or name a key file in "
    "GOOGLE_APPLICATION_CREDENTIALS"
)
_QUOTA = {"quotaExceeded", "rateLimitExceeded"}  # reasons of transient errors of type Forbidden

# https://cloud.google.com/resource-manager/docs/creating-managing-projects, with the domain of old
# projects; https://cloud.google.com/bigquery/docs/datasets#dataset-naming; and the characters of
# https://cloud.google.com/bigquery/docs/tables#table_naming that need no escape.
_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
_NAME = re.compile(rf"({_PROJECT})\.([A-Za-z0-9_]{{1,1024}})\.([A-Za-z0-9_-]{{1,1000}})")


@dataclass(frozen=True)
class TableName:
    """The name of a table, without characters that need an escape in SQL or in a URL."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        """Return project.dataset.table."""
        return f"{self.project}.{self.dataset}.{self.table}"

    @property
    def path(self) -> str:
        """The name of the table in the Storage Read API."""
        return f"projects/{self.project}/datasets/{self.dataset}/tables/{self.table}"

    @staticmethod
    def parse(text: str, flag: str) -> TableName:
        """Parse project.dataset.table; InputError names the flag if the text is anything else."""
        found = _NAME.fullmatch(text)
        if found is None:
            raise InputError(
                f"--{flag}: {text!r} is not a BigQuery table; give project.dataset.table, such as "
                "my-project.shop.interactions"
            )
        return TableName(*found.groups())


def client(project: str | None = None) -> bigquery.Client:
    """Return a client of the REST API, whose jobs run in `project` and are billed to it.

    The default is the project of the environment. Raises InputError if the environment has no
    credentials, or if there is no project.
    """
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import bigquery

    try:
        return bigquery.Client(project)
    except DefaultCredentialsError:
        raise InputError(f"BigQuery needs {_CREDENTIALS}") from None
    except OSError:  # the library found no project
        raise InputError(
            "BigQuery needs a project that the work is billed to: give --project or set "
            "GOOGLE_CLOUD_PROJECT"
        ) from None


def get_table(client: bigquery.Client, name: str) -> bigquery.Table:
    """Look a table up."""
    return client.get_table(name, retry=rest_retry())


def read_client() -> bigquery_storage_v1.BigQueryReadClient:
    """Return a client of the Storage Read API."""
    from google.cloud import bigquery_storage_v1

    emulator = os.environ.get("BIGQUERY_STORAGE_EMULATOR_HOST")
    if emulator is None:
        return bigquery_storage_v1.BigQueryReadClient()
    import grpc
    from google.cloud.bigquery_storage_v1.services.big_query_read.transports import (
        BigQueryReadGrpcTransport,
    )

    channel = grpc.insecure_channel(emulator, options=[("grpc.max_receive_message_length", -1)])
    return bigquery_storage_v1.BigQueryReadClient(
        transport=BigQueryReadGrpcTransport(channel=channel)
    )


def rest_retry() -> Retry:
    """Return the retry of requests of the REST API."""
    from google.cloud.bigquery import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(RETRY_SECONDS)


def read_retry() -> Retry:
    """Return the retry of requests of the Storage Read API; the library would retry for a day."""
    from google.api_core.exceptions import ServiceUnavailable
    from google.api_core.retry import Retry, if_exception_type

    return Retry(predicate=if_exception_type(ServiceUnavailable), timeout=RETRY_SECONDS)


@contextmanager
def user_errors(what: str, roles: str) -> Iterator[None]:
    """Turn errors that the user can fix into an InputError of one line.

    The line begins with `what`, and names the `roles` that the account needs. Transient errors
    pass unchanged.
    """
    from google.api_core import exceptions as google
    from google.auth.exceptions import RefreshError

    try:
        yield
    except (RefreshError, google.Unauthorized):
        raise InputError(f"{what}: Google rejected your {_CREDENTIALS}") from None
    except google.Forbidden as error:
        if _reason(error) in _QUOTA:
            raise
        raise InputError(f"{what}: {_message(error)}; grant {roles}") from None
    except google.NotFound as error:
        raise InputError(f"{what}: {_message(error)}; is the name right?") from None
    except google.BadRequest as error:
        raise InputError(f"{what}: {_message(error)}") from None


def _reason(error: GoogleAPICallError) -> str:
    return next((_fields(one).get("reason", "") for one in error.errors), "")


def _message(error: GoogleAPICallError) -> str:
    """Return the message of the service in one line, without the URL of the request."""
    messages = [_fields(one)["message"] for one in error.errors if "message" in _fields(one)]
    return " ".join((messages or [error.message])[0].split()).rstrip(".")


def _fields(error: Any) -> dict[str, str]:
    """Return the fields of an error of the REST API; errors of gRPC have none."""
    return error if isinstance(error, dict) else {}
