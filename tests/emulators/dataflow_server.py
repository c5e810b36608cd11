"""The part of Dataflow's REST service that a launcher talks to: jobs are taken, and done at once.

Beam takes an endpoint for one of its own only where its address says `localhost`.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_JOBS = re.compile(r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs")


@dataclass(frozen=True)
class Dataflow:
    """A service that is running.

    Attributes
    ----------
    endpoint
        For --dataflow_endpoint.
    jobs
        What was submitted, as it came, with its project and region.
    """

    endpoint: str
    jobs: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def dataflow_server() -> Iterator[Dataflow]:
    """Run the service in a thread of this process."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        service = Dataflow(f"http://localhost:{server.server_port}")
        server.jobs = service.jobs
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield service
        finally:
            server.shutdown()


class _Service(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        match = _JOBS.fullmatch(self._path())
        if match is None:
            return self._answer({"error": {"code": 404, "message": self.path}}, 404)
        self.server.jobs.append({**body, **match.groupdict()})
        return self._answer(self._job(len(self.server.jobs)))

    def do_GET(self) -> None:
        number = re.fullmatch(_JOBS.pattern + r"/job-(\d+)", self._path())
        if number:
            return self._answer(self._job(int(number[3])))
        return self._answer({"error": {"code": 404, "message": self.path}}, 404)

    def _job(self, number: int) -> dict[str, str]:
        job = self.server.jobs[number - 1]
        return {
            "id": f"job-{number}",
            "name": job["name"],
            "projectId": job["project"],
            "location": job["region"],
            "clientRequestId": job["clientRequestId"],
            "type": "JOB_TYPE_BATCH",
            "currentState": "JOB_STATE_DONE",
        }

    def _path(self) -> str:
        return self.path.split("?")[0]

    def _answer(self, content: dict[str, Any], status: int = 200) -> None:
        answer = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
