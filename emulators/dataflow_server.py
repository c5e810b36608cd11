"""The part of Dataflow's REST API that a launcher calls; a submitted job is done at once.

Beam takes an endpoint for an emulator only if its address is `localhost`.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from emulators.http_service import serve_json

_JOBS = re.compile(r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs")


@dataclass
class Dataflow:
    """A running service."""

    endpoint: str = ""  # for --dataflow_endpoint
    jobs: list[dict[str, Any]] = field(default_factory=list)  # submitted, with project and region

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Accept a job, if there is a body, or describe a job."""
        path = path.split("?")[0]
        if body and (match := _JOBS.fullmatch(path)):
            self.jobs.append({**json.loads(body), **match.groupdict()})
            return 200, self._job(len(self.jobs))
        if not body and (match := re.fullmatch(_JOBS.pattern + r"/job-(\d+)", path)):
            return 200, self._job(int(match[3]))
        return 404, {"error": {"code": 404, "message": path}}

    def _job(self, number: int) -> dict[str, str]:
        job = self.jobs[number - 1]
        return {
            "id": f"job-{number}",
            "name": job["name"],
            "projectId": job["project"],
            "location": job["region"],
            "clientRequestId": job["clientRequestId"],
            "type": "JOB_TYPE_BATCH",
            "currentState": "JOB_STATE_DONE",
        }


@contextmanager
def dataflow_server() -> Iterator[Dataflow]:
    """Run the service in a thread of this process."""
    service = Dataflow()
    with serve_json(service.answer) as url:
        service.endpoint = url.replace("127.0.0.1", "localhost")
        yield service
