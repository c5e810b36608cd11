"""A proxy of a service that answers some requests with an error and forwards the others."""

import http.client
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch
from urllib.parse import urlsplit

from emulators.http_service import Request, Response, json_response, serve

_REASONS = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    412: "conditionNotMet",
    429: "rateLimitExceeded",
    500: "internalError",
    503: "backendError",
}
_OF_CONNECTION = ("transfer-encoding", "connection", "content-length")


@contextmanager
def unwell(healthy: str, status: Callable[[str, str], int | None], said: str) -> Iterator[str]:
    """Run a proxy of the service at `healthy` and yield its URL.

    `status` is called with (method, path): a status makes the proxy answer with it and with the
    message `said`; None makes it forward the request.
    """

    def answer(request: Request) -> Response:
        code = status(request.method, request.path)
        if code is None:
            return _forward(healthy, request)
        reason = {"reason": _REASONS[code], "message": said}
        return json_response(code, {"error": {"code": code, "message": said, "errors": [reason]}})

    with serve(answer) as url:
        yield url


def _forward(url: str, request: Request) -> Response:
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    connection.request(request.method, request.path, request.body, request.headers)
    answer = connection.getresponse()
    headers = {
        name: value for name, value in answer.getheaders() if name.lower() not in _OF_CONNECTION
    }
    content = answer.read()
    connection.close()
    return answer.status, headers, content


@contextmanager
def watched(variable: str, pattern: str) -> Iterator[list[str]]:
    """Yield a list that gets the paths of requests to a service, as they come.

    The URL of the service is in an environment variable. Only paths that match are noted: Google's
    libraries send requests of their own, such as for the location of a bucket.
    """
    asked: list[str] = []

    def note(method: str, path: str) -> None:
        if re.search(pattern, path):
            asked.append(path)

    with unwell(os.environ[variable], note, "") as url, patch.dict(os.environ, {variable: url}):
        yield asked
