"""Job resources: command jobs, and pipelines whose jobs run as soon as their inputs exist."""

from __future__ import annotations

import re
import threading
import time
import uuid
from typing import Any

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.emulated_job import OVER, EmulatedJob
from tunewright.azure_emulator.jobs import Runner

_NAME = r"/jobs/([^/]+)$"
_OF_JOB = re.compile(r"\$\{\{parent\.jobs\.([\w-]+)\.outputs\.([\w-]+)\}\}")
_OF_PARENT = re.compile(r"\$\{\{parent\.(inputs|outputs)\.([\w-]+)\}\}")
_POLL_SECONDS = 0.2


class Jobs:
    """Makes jobs of the resources that are put at `…/jobs/NAME`."""

    def __init__(self, cloud: Cloud, runner: Runner):
        self._cloud, self._runner = cloud, runner
        self.hooks = [
            ("PUT", _NAME, self._put),
            ("GET", _NAME, self._get),
            ("GET", r"/workspaces/[^/]+/jobs$", self._list),
            ("POST", r"/jobs/[^/]+/cancel$", self._cancel),
        ]

    def _put(self, request: HttpRequest, path: str) -> HttpResponse | None:
        name = path.rpartition("/")[2]
        if name in self._runner.jobs:
            return None  # only the store changes a job that exists
        body = request.json()
        properties = body["properties"]
        if (missing := self._missing(properties)) is not None:
            return missing
        job = EmulatedJob(name, properties)
        if properties["jobType"] == "Pipeline":
            self._runner.jobs[name] = job
            threading.Thread(target=self._whole, args=(job,), daemon=True).start()
        else:
            self._runner.submit(job)
        return None

    def fire(self, schedule: str) -> EmulatedJob:
        """Begin the job of a schedule, as the calendar does: with nobody signed in.

        Args:
            schedule: the schedule's name.
        """
        kept = self._cloud.get(f"{self._cloud.workspace}/schedules/{schedule}")
        if kept is None:
            raise KeyError(schedule)
        body = kept["properties"]["action"]["jobDefinition"]
        job = EmulatedJob(f"{schedule}-{uuid.uuid4().hex[:8]}", body, is_signed_in=False)
        self._runner.jobs[job.name] = job
        threading.Thread(target=self._whole, args=(job,), daemon=True).start()
        return job

    def _missing(self, properties: dict[str, Any]) -> HttpResponse | None:
        compute = str(properties.get("computeId") or "")
        if compute and self._cloud.get(compute) is None:
            return error(400, "UserError", f"Compute target '{compute.rpartition('/')[2]}' does not exist.")
        return None

    def _list(self, request: HttpRequest, path: str) -> HttpResponse:
        """The jobs that clients submitted, each with its status; or those that have a tag of the name in the query
        (learn.microsoft.com/rest/api/azureml/jobs/list, "tag", read 2026-12-02)."""
        tag = request.query.get("tag")
        jobs = [self._shown(each["id"]) or each for each in self._cloud.below(path)]
        return HttpResponse(
            body={"value": [each for each in jobs if tag is None or tag in (each["properties"].get("tags") or {})]}
        )

    def _get(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        job = self._shown(path)
        return HttpResponse(body=job) if job else None

    def _shown(self, path: str) -> dict[str, Any] | None:
        """A job as Resource Manager returns it; None if the path has none."""
        name = path.rpartition("/")[2]
        job, kept = self._runner.jobs.get(name), self._cloud.get(path)
        if job is None:
            return None
        body = kept or {"id": path, "name": name, "type": "jobs"}
        properties = {**(body.get("properties") or job.body), "status": job.client_status}
        if job.body.get("jobType") != "Pipeline":
            properties["outputs"] = {
                each: {**(value or {}), "uri": self._runner.output(job, each)}
                for each, value in (job.body.get("outputs") or {}).items()
            }
        studio = f"https://ml.azure.com/runs/{name}?wsid={self._cloud.workspace}"
        properties["services"] = {"Studio": {"endpoint": studio, "jobServiceType": "Studio"}}
        return body | {"properties": properties}

    def _cancel(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        name = path.split("/")[-2]
        job = self._runner.jobs.get(name)
        if job is None:
            return error(404, "ResourceNotFound", f"no job {name}")
        for each in [job, *(j for j in self._runner.jobs.values() if j.parent == name)]:
            if each.status not in OVER:
                self._runner.cancel(each)
        return HttpResponse(200)

    def _whole(self, pipeline: EmulatedJob) -> None:
        try:
            self._pipeline(pipeline)
        except Exception as error:  # noqa: BLE001 (a job's failure is its status, as in the cloud)
            pipeline.error, pipeline.status = f"{type(error).__name__}: {error}", "Failed"
        pipeline.ended = time.time()

    def _pipeline(self, pipeline: EmulatedJob) -> None:
        """Run the jobs of a pipeline in the order of their inputs. After the first failure no further job begins."""
        pipeline.status, pipeline.started = "Running", time.time()
        waiting = dict(pipeline.body["jobs"])
        running: dict[str, EmulatedJob] = {}
        while (waiting or any(job.status not in OVER for job in running.values())) and not pipeline.cancelled:
            if any(job.status in ("Failed", "Canceled") for job in running.values()):
                waiting.clear()
            for key in list(waiting):
                sources = {match[0] for match in _OF_JOB.findall(str(waiting[key].get("inputs")))}
                if all(source in running and running[source].status == "Completed" for source in sources):
                    running[key] = self._child(pipeline, key, waiting.pop(key), running)
            time.sleep(_POLL_SECONDS)
        while any(job.status not in OVER for job in running.values()):
            time.sleep(_POLL_SECONDS)
        failed = next((job for job in running.values() if job.status == "Failed"), None)
        cancelled = pipeline.cancelled or any(job.status == "Canceled" for job in running.values())
        pipeline.error = failed.error if failed else None
        pipeline.status = "Failed" if failed else "Canceled" if cancelled else "Completed"

    def _child(
        self, pipeline: EmulatedJob, key: str, node: dict[str, Any], running: dict[str, EmulatedJob]
    ) -> EmulatedJob:
        """Begin one of a pipeline's jobs: its component, with the inputs and outputs that the pipeline gives it."""
        component = self._cloud.get(str(node["componentId"]).removeprefix("azureml:"))
        if component is None:
            raise FileNotFoundError(f"no component {node['componentId']}")
        spec = component["properties"]["componentSpec"]
        inputs = {name: self._resolved(pipeline, value, running) for name, value in (node.get("inputs") or {}).items()}
        outputs = {
            name: self._resolved(pipeline, value, running) for name, value in (node.get("outputs") or {}).items()
        }
        body = {
            "displayName": key,
            "experimentName": pipeline.body.get("experimentName"),
            "command": spec["command"],
            "environmentId": spec.get("environment"),
            "computeId": node.get("computeId") or (pipeline.body.get("settings") or {}).get("default_compute"),
            "inputs": inputs,
            "outputs": {name: outputs.get(name) for name in spec.get("outputs") or {}},
            "distribution": _camel(node.get("distribution") or spec.get("distribution") or {}),
            "resources": _camel(node.get("resources") or spec.get("resources") or {}),
            "limits": node.get("limits"),
            "environmentVariables": node.get("environment_variables"),
            "properties": {},
            "tags": pipeline.body.get("tags"),
            "identity": node.get("identity"),
        }
        job = EmulatedJob(str(uuid.uuid4()), body, parent=pipeline.name, is_signed_in=pipeline.is_signed_in)
        self._runner.submit(job)
        return job

    def _resolved(
        self, pipeline: EmulatedJob, value: dict[str, Any], running: dict[str, EmulatedJob]
    ) -> dict[str, Any]:
        """The value of a binding to another job or to the pipeline."""
        text = str(value.get("value") or value.get("uri") or "")
        if match := _OF_JOB.fullmatch(text):
            return {"jobInputType": "uri_folder", "uri": self._runner.output(running[match[1]], match[2])}
        if match := _OF_PARENT.fullmatch(text):
            return dict(pipeline.body[match[1]][match[2]] or {})
        return value


def _camel(section: dict[str, Any]) -> dict[str, Any]:
    """A component's section with the keys that a job has."""
    names = {
        "type": "distributionType",
        "process_count_per_instance": "processCountPerInstance",
        "instance_count": "instanceCount",
    }
    renamed = {names.get(key, key): value for key, value in section.items()}
    if str(renamed.get("distributionType", "")).lower() == "pytorch":
        renamed["distributionType"] = "PyTorch"
    return renamed
