"""HTTP servers of our own, in a thread of the tests."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


PORTS: set[int] = set()  # of the servers that run in this process

Response = tuple[int, dict[str, str], bytes]  # status, headers, body


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients may close a connection at any time."""


@contextmanager
def serve(answer: Callable[[Request], Response]) -> Iterator[str]:
    """Run a server on loopback and yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, dict(self.headers), body)
            status, headers, content = answer(request)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        PORTS.add(server.server_port)
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            PORTS.remove(server.server_port)
            server.shutdown()


def json_response(status: int, content: Any) -> Response:
    """Return a response with a JSON body."""
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


@contextmanager
def serve_json(answer: Callable[[str, bytes], tuple[int, Any]]) -> Iterator[str]:
    """Run a server that answers (path, body) with a status and JSON, and yield its URL."""
    with serve(lambda request: json_response(*answer(request.path, request.body))) as url:
        yield url
