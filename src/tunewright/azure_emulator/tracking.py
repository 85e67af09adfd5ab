"""MLflow: a real tracking server, whose runs clients see under the run ids of Azure ML."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tunewright.azure_emulator.children import started, stop
from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.emulated_job import EmulatedJob
from tunewright.core.errors import UserError
from tunewright.core.processes import free_port

_START_SECONDS = 90
_STATUS = {"Completed": "FINISHED", "Failed": "FAILED", "Canceled": "KILLED"}
_API = re.compile(r"^/mlflow/v[12]\.0/.*?/workspaces/[^/]+(?P<rest>/(?:api|ajax-api)/.*)$")
_ASYNC = re.compile(r"/runs/(log-batch-async|get-run-data-status)$")


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run the server on SQLite. Yields its address.

    Raises:
        UserError: it did not start.
    """
    port = free_port()
    log = folder / "mlflow.log"
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.sqlite'}",
        "--artifacts-destination",
        str(folder / "mlflow"),
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    # Its own job runners would be four more processes, which nothing here needs.
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with log.open("wb") as output:
        process = started(folder, command, output, environment)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(process, address, log)
        yield address
    finally:
        stop(process, signal.SIGTERM)
        process.wait()


def _wait_for(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{address}/health", trust_env=False, timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise UserError(
        "The MLflow server did not start.",
        where=log,
        why=log.read_text("utf-8", "replace")[-300:].strip(),
        fix="Type the command again.",
    )


class TrackingServer:
    """Passes MLflow's calls on to the server, and makes a run there for each job.

    The server's run ids differ from the jobs' names; calls and answers are translated.
    """

    def __init__(self, cloud: Cloud, address: str):
        self._cloud = cloud
        self._client = httpx.Client(base_url=address, timeout=60, trust_env=False)
        self._run_ids: dict[str, str] = {}
        """The server's run id for each job's name."""

    def begin_or_end(self, job: EmulatedJob, status: str | None) -> dict[str, str]:
        """Open the run of a job, or close it with a status. Returns the job's variables for it."""
        if status:
            self._post("runs/update", run_id=self._run_ids[job.name], status=_STATUS[status])
            return {}
        experiment = self._experiment(str(job.body.get("experimentName") or "Default"))
        answer = self._post(
            "runs/create",
            experiment_id=experiment,
            run_name=job.body.get("displayName") or job.name,
            start_time=int(1000 * time.time()),
        )
        self._run_ids[job.name] = answer["run"]["info"]["run_id"]
        where = f"{self._cloud.region}.api.azureml.ms/mlflow/v1.0{self._cloud.workspace}"
        return {
            "MLFLOW_TRACKING_URI": f"azureml://{where}",
            "MLFLOW_RUN_ID": job.name,
            "AZUREML_RUN_ID": job.name,
            "MLFLOW_EXPERIMENT_ID": experiment,
            "AZUREML_ARM_SUBSCRIPTION": self._cloud.subscription,
            "AZUREML_ARM_RESOURCEGROUP": self._cloud.group,
            "AZUREML_ARM_WORKSPACE_NAME": self._cloud.workspace_name,
        }

    def __call__(self, request: HttpRequest) -> HttpResponse:
        match = _API.match(request.path)
        if match is None:
            return error(404, "NotFound", request.path)
        rest = match["rest"]
        if asynchronous := _ASYNC.search(rest):
            if asynchronous[1] == "get-run-data-status":
                return HttpResponse(body={"is_complete": True})
            rest = rest.replace("/preview/", "/").replace("log-batch-async", "log-batch")
        query = {name: self._run_ids.get(value, value) for name, value in request.query.items()}
        reply = self._client.request(
            request.method,
            rest,
            params=query,
            content=self._outward(request.body),
            headers={"content-type": "application/json"},
        )
        return HttpResponse(reply.status_code, self._inward(reply.content), {"content-type": "application/json"})

    def _experiment(self, name: str) -> str:
        reply = self._client.get("/api/2.0/mlflow/experiments/get-by-name", params={"experiment_name": name})
        if reply.status_code == 200:
            return str(reply.json()["experiment"]["experiment_id"])
        return str(self._post("experiments/create", name=name)["experiment_id"])

    def _post(self, call: str, **body: Any) -> dict[str, Any]:
        return dict(self._client.post(f"/api/2.0/mlflow/{call}", json=body).raise_for_status().json())

    def _outward(self, content: bytes) -> bytes:
        for name, run_id in self._run_ids.items():
            content = content.replace(f'"{name}"'.encode(), f'"{run_id}"'.encode())
        return content

    def _inward(self, content: bytes) -> bytes:
        for name, run_id in self._run_ids.items():
            content = content.replace(f'"{run_id}"'.encode(), f'"{name}"'.encode())
            # Artifacts go to the same address as in Azure ML, not to the server.
            content = re.sub(
                rb'"mlflow-artifacts:[^"]*' + run_id.encode() + rb'/artifacts"', self._artifacts(name), content
            )
        return content

    def _artifacts(self, name: str) -> bytes:
        host = f"{self._cloud.region}.api.azureml.ms/mlflow/v2.0"
        return f'"azureml://{host}{self._cloud.workspace}/experiments/Default/runs/{name}/artifacts"'.encode()
