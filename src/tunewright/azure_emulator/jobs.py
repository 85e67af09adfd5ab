"""Runs jobs for real: code and inputs come from the storage, the command runs here, outputs and log go back."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewright.azure_emulator.children import started, stop
from tunewright.azure_emulator.cloud import Cloud
from tunewright.azure_emulator.containers import sign_in
from tunewright.azure_emulator.emulated_job import OVER, EmulatedJob, artifact_folder, duration_seconds, rank_variables
from tunewright.azure_emulator.roles import NOT_PERMITTED, Access
from tunewright.azure_emulator.storage import STORE, Storage, path_of
from tunewright.models.device import GPU

_LOG = "user_logs/std_log.txt"
_BUILD_LOG = "azureml-logs/20_image_build_log.txt"
_LOG_SECONDS = 0.3
_GRACE_SECONDS = 15
"""Time between the notice of an eviction and the end of the node."""
_EVICTED = -1000
"""Replaces an exit code if the node was evicted."""
_EMULATED_GPU = {GPU: "played"}
"""The variable by which a node does without a GPU, because this machine need not have one."""
_BINDING = re.compile(r"\$\{\{(inputs|outputs)\.([\w-]+)\}\}")


class StreamAccess(Exception):
    """A job may not read or write its data; the message has Azure ML's words."""


class Runner:
    """Runs jobs, as many at once as their clusters have nodes.

    Args:
        environment: the variables of every container.
        track: called when a job begins, to get the variables of its MLflow run; and when it ends, with its status.
        access: the roles of the jobs' identities.
    """

    def __init__(
        self,
        cloud: Cloud,
        storage: Storage,
        environment: dict[str, str],
        track: Callable[[EmulatedJob, str | None], dict[str, str]],
        access: Access,
    ):
        self._cloud, self._storage, self._environment, self._track = cloud, storage, environment, track
        self._access = access
        self.jobs: dict[str, EmulatedJob] = {}
        self.evictions: list[str] = []
        """Texts: the first job whose log contains one of them loses its node once, and runs again."""
        self.grace = _GRACE_SECONDS
        self.plays_gpus = True
        """Whether a node of a size with a GPU does without one; otherwise its job fails because torch can't use the
        GPU."""
        self.stuck: set[str] = set()
        """Clusters that stay in Resizing: no machine comes, and none goes."""
        self.image_log = ""
        """If set, the build of the next job's image fails with this log."""
        self._build_logs: dict[str, str] = {}
        self._nodes: dict[str, threading.Semaphore] = {}

    def submit(self, job: EmulatedJob) -> None:
        """Begin a job in the background."""
        self.jobs[job.name] = job
        threading.Thread(target=self._whole, args=(job,), daemon=True).start()

    def cancel(self, job: EmulatedJob) -> None:
        """Ask for the end of a job; `_watch` then ends it."""
        job.cancelled = True

    def close(self) -> None:
        """End everything that runs."""
        for job in list(self.jobs.values()):
            if job.status not in OVER:
                self.cancel(job)
        for job in list(self.jobs.values()):
            for node in job.nodes:
                _kill(node)

    def _whole(self, job: EmulatedJob) -> None:
        try:
            with self._node(job):
                self._run(job)
        except StreamAccess as error:
            job.error, job.status = str(error), "Failed"
        except Exception as error:  # noqa: BLE001 (a job's failure is its status, as in the cloud)
            job.error, job.status = f"{type(error).__name__}: {error}", "Failed"
        job.ended = time.time()

    @contextmanager
    def _node(self, job: EmulatedJob) -> Iterator[None]:
        """Hold a machine for a job inside the block; a cancelled job needs none."""
        free, path = self._free_nodes(job.compute), f"{self._cloud.workspace}/computes/{job.compute}"
        while job.compute in self.stuck or not free.acquire(timeout=_LOG_SECONDS):
            if job.cancelled:
                yield
                return
            if job.compute and self._cloud.get(path) is None:
                raise LookupError(f"Compute target '{job.compute}' was deleted.")
            time.sleep(_LOG_SECONDS)
        try:
            yield
        finally:
            free.release()

    def _free_nodes(self, compute: str) -> threading.Semaphore:
        with self._cloud.lock:
            if compute not in self._nodes:
                known = self._cloud.get(f"{self._cloud.workspace}/computes/{compute}") or {}
                scale = (known.get("properties", {}).get("properties") or {}).get("scaleSettings") or {}
                self._nodes[compute] = threading.Semaphore(max(1, int(scale.get("maxNodeCount") or 1)))
            return self._nodes[compute]

    def _run(self, job: EmulatedJob) -> None:
        """Run a job from its image to its outputs. If its image can't be built, its only log is the build's (rule
        image-build-log)."""
        if job.cancelled:
            job.status = "Canceled"
            return
        folder = self._cloud.folder / "jobs" / job.name
        job.status, job.started = "Preparing", time.time()
        if self.image_log:
            self._build_logs[job.name] = f"{artifact_folder(job)}/{_BUILD_LOG}"
            self._storage.write(self._build_logs[job.name], self.image_log.encode())
            self.image_log = ""
            raise RuntimeError(f"Image build failed. For more details, check log file {_BUILD_LOG}.")
        if not job.is_signed_in and job.is_as_user:
            raise PermissionError("The job reads and writes as the user who submits it, and nobody did.")
        paths = {
            f"inputs.{name}": self._input(job, value, folder / "inputs" / name)
            for name, value in (job.body.get("inputs") or {}).items()
        }
        for name in job.body.get("outputs") or {}:
            (folder / "outputs" / name).mkdir(parents=True, exist_ok=True)
            paths[f"outputs.{name}"] = str(folder / "outputs" / name)
            # A mount shows the files that an earlier try left there.
            if prefix := path_of(self.output(job, name)):
                self._require(job, "read", self.output(job, name))
                self._storage.download(prefix, folder / "outputs" / name)
        variables = self._track(job, None)
        job.status = "Running"
        while True:
            code = self._attempt(job, folder, paths, variables)
            if code != _EVICTED or job.cancelled:
                break
            job.status = "Queued"
        for name in job.body.get("outputs") or {}:
            self._require(job, "write", self.output(job, name))
            self._storage.mirror(folder / "outputs" / name, path_of(self.output(job, name)) or "")
        job.status = "Canceled" if job.cancelled else "Failed" if code else "Completed"
        if job.status == "Failed":
            job.error = job.error or f"Execution failed. User process exited with status code {code}."
        self._track(job, job.status)
        shutil.rmtree(folder, ignore_errors=True)

    def _attempt(self, job: EmulatedJob, folder: Path, paths: dict[str, str], variables: dict[str, str]) -> int:
        """Run the command on all nodes. Returns the exit code of the first that failed, or 0."""
        job.attempts += 1
        command = _BINDING.sub(lambda match: shlex.quote(paths[f"{match[1]}.{match[2]}"]), str(job.body["command"]))
        log = folder / "std_log.txt"
        folder.mkdir(parents=True, exist_ok=True)
        job.status = "Running"
        with log.open("ab") as output:
            job.nodes = [
                self._process(
                    job, command, output, variables | rank, folder / f"node-{job.attempts}-{rank.get('NODE_RANK', 0)}"
                )
                for rank in rank_variables(job)
            ]
            evicted = self._watch(job, log)
        return _EVICTED if evicted else next((node.returncode for node in job.nodes if node.returncode), 0)

    def _process(
        self, job: EmulatedJob, command: str, output: Any, variables: dict[str, str], node: Path
    ) -> subprocess.Popen[bytes]:
        """One process on a node that has nothing but the job's inputs: its home is empty, so no cache has models."""
        work, home = node / "wd", node / "home"
        for each in (work, home):
            each.mkdir(parents=True, exist_ok=True)
        environment = self._environment | sign_in(job.principal) | variables
        environment |= (job.body.get("environmentVariables") or {}) | (_EMULATED_GPU if self.plays_gpus else {})
        environment |= {"HOME": str(home)}
        return started(self._cloud.folder, ["bash", "-c", command], output, environment, work)

    def _watch(self, job: EmulatedJob, log: Path) -> bool:
        """Copy the log to the storage until all nodes have ended. Returns whether they were evicted."""
        limit = duration_seconds((job.body.get("limits") or {}).get("timeout"))
        sent, evicted = -1, False
        ending: float | None = None
        while any(node.poll() is None for node in job.nodes):
            size = log.stat().st_size
            if size != sent:
                self._storage.write(self._log(job), log.read_bytes())
                sent = size
            if ending is None:
                evicted = self._is_evicted(log)
                if late := bool(limit and job.seconds > limit):
                    job.error = f"JobTimeout: the job ran longer than its limit of {limit:.0f} s and was stopped."
                if evicted or late or job.cancelled:
                    ending = time.monotonic() + self.grace
                    for node in job.nodes:
                        stop(node, signal.SIGTERM)
            elif time.monotonic() > ending:
                for node in job.nodes:
                    _kill(node)
            time.sleep(_LOG_SECONDS)
        self._storage.write(self._log(job), log.read_bytes())
        return evicted

    def _is_evicted(self, log: Path) -> bool:
        with self._cloud.lock:
            text = next((text for text in self.evictions if text.encode() in log.read_bytes()), None)
            if text is not None:
                self.evictions.remove(text)
        return text is not None

    def _require(self, job: EmulatedJob, verb: str, uri: str) -> None:
        """Refuse data that a job's identity may not read or write (rule identities-need-roles), in the words of
        github.com/Azure/azureml-examples/issues/2994 and of learn.microsoft.com/azure/machine-learning/\
how-to-troubleshoot-data-access (read 2026-11-29).

        Args:
            verb: read or write.

        Raises:
            StreamAccess: the identity may not.
        """
        if self._access.allows_blobs(verb, job.principal):
            return
        if verb == "write":
            raise StreamAccess(
                "Error Code: ScriptExecution.WriteStreams.Authentication Native Error: An error occur when streaming "
                "data to output target. DestinationError(PermissionDenied(None)) Error Message: Authentication failed "
                "when trying to access destination. Make sure you have correct permissions set up."
            )
        raise StreamAccess(
            f"Failed to mount URI {uri}. Error Code: ScriptExecution.StreamAccess.Authentication Native Error: error "
            f"in streaming from input data sources StreamError(PermissionDenied(Some({NOT_PERMITTED})))"
        )

    def _input(self, job: EmulatedJob, value: dict[str, Any], folder: Path) -> str:
        """The path of an input on the node, or the value of a literal."""
        if value.get("jobInputType") == "literal":
            return str(value["value"])
        self._require(job, "read", str(value["uri"]))
        prefix = path_of(self._address(str(value["uri"])))
        if prefix is None or not self._storage.names(prefix):
            raise FileNotFoundError(f"nothing lies at {value['uri']}")
        return str(self._storage.download(prefix, folder))

    def _address(self, uri: str) -> str:
        """The address in the datastore of an asset's address, or of an address in the datastore itself."""
        if STORE in uri:
            return uri
        match = re.fullmatch(r"azureml:([^/:]+):([^/:]+)", uri)
        path = f"{self._cloud.workspace}/data/{match[1]}/versions/{match[2]}" if match else uri.removeprefix("azureml:")
        asset = self._cloud.get(path)
        if asset is None:
            raise FileNotFoundError(f"no data asset {uri}")
        return str(asset["properties"].get("dataUri") or asset["properties"].get("modelUri"))

    def output(self, job: EmulatedJob, name: str) -> str:
        """The address in the datastore of an output."""
        uri = (job.body["outputs"][name] or {}).get("uri")
        return str(uri or f"azureml:/{STORE}azureml/{job.name}/{name}/").replace("${{name}}", job.name)

    def logs(self, job: EmulatedJob) -> dict[str, str]:
        """Addresses of a job's logs, by name."""
        blobs = {_LOG: self._log(job)} if self._storage.names(self._log(job)) else {}
        blobs |= {_BUILD_LOG: self._build_logs[job.name]} if job.name in self._build_logs else {}
        return {name: self._storage.signed(blob) for name, blob in blobs.items()}

    def artifact(self, job: EmulatedJob, path: str) -> str:
        """A signed address to which a job may write an artifact."""
        return self._storage.signed(f"{artifact_folder(job)}/{path}", "rcw")

    def _log(self, job: EmulatedJob) -> str:
        return f"{artifact_folder(job)}/{_LOG}"


def _kill(node: subprocess.Popen[bytes]) -> None:
    stop(node, signal.SIGKILL)
    node.wait()
