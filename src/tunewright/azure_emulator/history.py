"""Run history, the service at `REGION.api.azureml.ms`: a run's state, the address of its log, its children and
artifacts."""

from __future__ import annotations

import re
from typing import Any

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.emulated_job import EmulatedJob, timestamp
from tunewright.azure_emulator.jobs import Runner

API = ".api.azureml.ms"
_RUN = re.compile(
    r"/history/v1\.0(?P<workspace>/.+?)(?:/experiment(?:s|ids)/[^/]+)?/runs/(?P<run>[^/]+)(?:/(?P<what>[\w/]+))?$"
)


class RunHistory:
    def __init__(self, cloud: Cloud, runner: Runner):
        self._cloud, self._runner = cloud, runner

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/discovery"):
            return HttpResponse(body={"api": f"https://{request.host}", "history": f"https://{request.host}"})
        match = _RUN.match(request.path)
        job = self._runner.jobs.get(match["run"]) if match else None
        if match is None or job is None:
            return error(404, "NotFound", f"no run at {request.path}")
        if match["what"] == "details":
            return HttpResponse(body=self._run(job) | {"logFiles": self._runner.logs(job)})
        if match["what"] == "children":
            children = [self._run(each) for each in list(self._runner.jobs.values()) if each.parent == job.name]
            return HttpResponse(body={"value": children})
        if match["what"] == "artifacts/batch/metadata":
            named = [str(each["path"]) for each in request.json()["paths"]]
            return HttpResponse(
                body={
                    "artifacts": {},
                    "artifactContentInformation": {
                        path: {"path": path, "contentUri": self._runner.artifact(job, path)} for path in named
                    },
                }
            )
        if request.method == "PATCH":
            return self._changed(job, request.json())
        return HttpResponse(body=self._run(job))

    def _changed(self, job: EmulatedJob, change: dict[str, Any]) -> HttpResponse:
        for key in ("tags", "properties"):
            job.body[key] = (job.body.get(key) or {}) | (change.get(key) or {})
        return HttpResponse(body=self._run(job))

    def _time(self, seconds: float | None) -> str | None:
        """A time of this machine, by the cloud's clock."""
        return timestamp(seconds + self._cloud.ahead if seconds else None)

    def _run(self, job: EmulatedJob) -> dict[str, Any]:
        return {
            "runId": job.name,
            "parentRunId": job.parent,
            "displayName": job.body.get("displayName") or job.name,
            "experimentId": job.body.get("experimentName") or "Default",
            "status": job.client_status,
            "startTimeUtc": self._time(job.started),
            "endTimeUtc": self._time(job.ended),
            "createdUtc": self._time(job.started),
            "properties": {**(job.body.get("properties") or {}), "azureml.attempts": str(job.attempts)},
            "tags": job.body.get("tags") or {},
            "error": {"error": {"code": "UserError", "message": job.error}} if job.error else None,
            "warnings": [],
            "compute": {"target": job.compute, "targetType": "amlcompute"} if job.compute else None,
        }
