"""BigQuery: names of tables, and the clients for its two APIs.

Credentials come from the environment alone, as Google's libraries find them. So does an emulator's
address: BIGQUERY_EMULATOR_HOST for the REST API (the library reads it), and
BIGQUERY_STORAGE_EMULATOR_HOST (host:port) for the Storage Read API.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transforms.errors import InputError

if TYPE_CHECKING:
    from google.cloud import bigquery, bigquery_storage_v1

# https://cloud.google.com/resource-manager/docs/creating-managing-projects, with the domain that
# old projects have; https://cloud.google.com/bigquery/docs/datasets#dataset-naming; of the letters
# that https://cloud.google.com/bigquery/docs/tables#table_naming takes, those that need no care.
_PROJECT = r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"
_NAME = re.compile(rf"({_PROJECT})\.([A-Za-z0-9_]{{1,1024}})\.([A-Za-z0-9_-]{{1,1000}})")


@dataclass(frozen=True)
class TableName:
    """A table, whose parts hold nothing that SQL or a URL would take for something else."""

    project: str
    dataset: str
    table: str

    def __str__(self) -> str:
        """Return project.dataset.table."""
        return f"{self.project}.{self.dataset}.{self.table}"

    @staticmethod
    def parse(text: str, flag: str) -> TableName:
        """Read project.dataset.table.

        Parameters
        ----------
        flag
            What the text was given for, in an error.

        Raises
        ------
        InputError
            If it is anything else.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise InputError(
                f"--{flag}: {text!r} is not a BigQuery table; give project.dataset.table, such as "
                "my-project.shop.interactions"
            )
        return TableName(*found.groups())


def client() -> bigquery.Client:
    """Return a client of the REST API; it works in the project of the environment."""
    from google.cloud import bigquery

    return bigquery.Client()


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
