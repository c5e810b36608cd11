"""The hosts that a process looks for: without a network nothing else shows that it reports."""

import socket
from typing import Any


def recorded_lookups() -> list[str]:
    """Return a list that every host is added to that this process looks for from now on."""
    hosts: list[str] = []
    look = socket.getaddrinfo

    def record(host: Any, *arguments: Any, **options: Any) -> Any:
        hosts.append(str(host))
        return look(host, *arguments, **options)

    socket.getaddrinfo = record
    return hosts
