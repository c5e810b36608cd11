"""The part of Dataflow's REST service that a launcher talks to: jobs are taken, and done at once.

Beam takes an endpoint for one of its own only where its address says `localhost`.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from emulators.json_service import serve

_JOBS = re.compile(r"/v1b3/projects/(?P<project>[^/]+)/locations/(?P<region>[^/]+)/jobs")


@dataclass
class Dataflow:
    """A service that is running.

    Attributes
    ----------
    endpoint
        For --dataflow_endpoint.
    jobs
        What was submitted, as it came, with its project and region.
    """

    endpoint: str = ""
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Take a job, where there is a body, or tell of one."""
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
    with serve(service.answer) as port:
        service.endpoint = f"http://localhost:{port}"
        yield service
