"""A service that is unwell: it answers some requests with an error and hands the others on."""

import http.client
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch
from urllib.parse import urlsplit

_REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    429: "rateLimitExceeded",
    500: "internalError",
    503: "backendError",
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Print nothing: clients hang up as they like."""


@contextmanager
def unwell(healthy: str, status: Callable[[str, str], int | None], said: str) -> Iterator[str]:
    """Run a server that stands before another.

    Parameters
    ----------
    healthy
        URL of the other one.
    status
        (method, path) -> the status to answer a request with; None hands it on.
    said
        Message of the errors.

    Yields
    ------
    Its URL.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code = status(self.command, self.path)
            if code is None:
                self._hand_on(body)
            else:
                reason = {"reason": _REASONS[code], "message": said}
                error = {"error": {"code": code, "message": said, "errors": [reason]}}
                self._send(code, {"Content-Type": "application/json"}, json.dumps(error).encode())

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

        def _hand_on(self, body: bytes) -> None:
            connection = http.client.HTTPConnection(urlsplit(healthy).netloc)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            headers = {
                name: value
                for name, value in answer.getheaders()
                if name.lower() not in ("transfer-encoding", "connection", "content-length")
            }
            self._send(answer.status, headers, answer.read())
            connection.close()

        def _send(self, code: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def watched(variable: str, pattern: str) -> Iterator[list[str]]:
    """Note requests to the service whose URL is in an environment variable.

    Parameters
    ----------
    pattern
        Which: the library asks for things of its own too, such as where a bucket is.

    Yields
    ------
    Their paths, as they come.
    """
    asked: list[str] = []

    def note(method: str, path: str) -> None:
        if re.search(pattern, path):
            asked.append(path)

    with unwell(os.environ[variable], note, "") as url, patch.dict(os.environ, {variable: url}):
        yield asked
