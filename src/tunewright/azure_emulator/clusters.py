"""An AKS cluster, as far as run-command reaches it: releases of our chart, whose pods this package runs here."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import zipfile
from typing import Any

import jwt
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from tunewright.azure_emulator.cloud import TENANT, Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.containers import environment_of_containers
from tunewright.azure_emulator.images import Registry
from tunewright.azure_emulator.served import ModelContainer
from tunewright.config import overlay

_CLUSTER = r"/managedClusters/[^/]+"
NAME = "emulator"
ENTRA_SERVER = "6dae42f8-4368-4678-94ff-3960e28e3630"
"""AKS' server application: the audience of a token for a cluster with Entra ID."""
_INSTALL = re.compile(r"^helm upgrade --install (\S+) chart --namespace (\S+) ")
_LIST = re.compile(r"^helm list --namespace (\S+) ")
_VALUES = re.compile(r"^helm get values (\S+) ")
_UNINSTALL = re.compile(r"^helm uninstall (\S+) ")
_ROLLBACK = re.compile(r"^helm rollback (\S+) ")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_RELEASE = re.compile(rf"{_NAMESPACE.pattern}(?:\.{_NAMESPACE.pattern})*")
_LONGEST_RELEASE, _LONGEST_NAMESPACE = 53, 63
_PENDING = "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress"
_EXEC = re.compile(r"^kubectl exec .*deploy/(\S+)-(stable|canary) -- python -m (\S+) < (\S+)$")
_READY = re.compile(r"^kubectl get .*deploy/(\S+)-(stable|canary) --output jsonpath=\{\.status\.readyReplicas\}$")


class Clusters:
    """One cluster, which Entra ID guards. It knows the commands of `helm` and `kubectl` that a deployment uses."""

    def __init__(self, cloud: Cloud, registry: Registry):
        self._cloud, self._registry = cloud, registry
        self.releases: dict[str, dict[str, Any]] = {}
        """The values of each release."""
        self.breaks_off = False
        """Whether the next upgrade is broken off half way: pods run, and helm keeps the release as pending."""
        self._pending: dict[str, dict[str, Any] | None] = {}
        """The earlier values of each pending release."""
        self._servers: dict[tuple[str, str], tuple[str, ModelContainer]] = {}
        self.tokens: list[str | None] = []
        """The cluster tokens of the commands, with None for a command without one."""
        self.says: str | None = None
        """If set, the output of each command instead of its own, with the exit code `code`."""
        self.code = 0
        group = f"/subscriptions/{cloud.subscription}/resourceGroups/{cloud.group}/providers"
        self._path = f"{group}/Microsoft.ContainerService/managedClusters/{NAME}"
        self.profile({"managed": True, "enableAzureRBAC": True, "tenantID": TENANT})
        self._results: dict[str, dict[str, Any]] = {}
        self.hooks = [
            ("POST", f"{_CLUSTER}/runCommand$", self._run),
            ("GET", f"{_CLUSTER}/commandResults/[^/]+$", self._result),
        ]

    def profile(self, aad: dict[str, Any] | None) -> None:
        """Set how Entra ID guards the cluster; None: not at all."""
        properties = {"aadProfile": aad} if aad else {}
        self._cloud.put(self._path, {"location": self._cloud.region, "properties": properties})

    def close(self) -> None:
        for _, server in self._servers.values():
            server.close()

    def _run(self, request: HttpRequest, path: str) -> HttpResponse:
        """Run a command, if the rule cluster-token allows it."""
        body = request.json()
        token = body.get("clusterToken")
        self.tokens.append(token)
        cluster = self._cloud.get(path.removesuffix("/runCommand"))
        guarded = bool(cluster and cluster["properties"].get("aadProfile"))
        if guarded and not token:
            # Word for word: Azure/azure-rest-api-specs#22480, read 2026-11-28.
            message = "This cluster have Azure Active Directory enabled, .clusterToken is required."
            return error(400, "MissingAADClusterToken", message)
        files: dict[str, bytes] = {}
        if body.get("context"):
            with zipfile.ZipFile(io.BytesIO(base64.b64decode(body["context"]))) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
        if guarded and not _is_for_clusters(token):
            code, output = 1, "error: You must be logged in to the server (Unauthorized)"
        elif self.says is not None:
            code, output = self.code, self.says
        else:
            code, output = self._done(body["command"], files)
        name = str(len(self._results) + 1)
        self._results[name] = {
            "id": name,
            "properties": {"provisioningState": "Succeeded", "exitCode": code, "logs": output},
        }
        where = f"https://management.azure.com{path.removesuffix('/runCommand')}/commandResults/{name}?api-version=2025-05-01"
        return HttpResponse(202, None, {"location": where, "retry-after": "0"})

    def _result(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        result = self._results.get(path.rpartition("/")[2])
        return HttpResponse(body=result) if result else error(404, "NotFound", path)

    def _done(self, command: str, files: dict[str, bytes]) -> tuple[int, str]:
        """(exit code, output) of a command. The rule helm-hides-pending holds for lists."""
        if match := _INSTALL.match(command):
            if wrong := _misnamed(match[1], match[2]):
                return 1, wrong
            return self._install(match[1], json.loads(files["values.json"]), files)
        if match := _LIST.match(command):
            is_listed = match[1] in self.releases and (match[1] not in self._pending or " --all " in command)
            return 0, json.dumps([{"name": match[1]}] if is_listed else [])
        if match := _ROLLBACK.match(command):
            before = self._pending.pop(match[1], None)
            return (0, "Rollback was a success!") if before is None else self._set_values(match[1], before)
        if match := _VALUES.match(command):
            return 0, json.dumps(self.releases[match[1]])
        if match := _UNINSTALL.match(command):
            self.releases.pop(match[1], None)
            self._pending.pop(match[1], None)
            self._settle(match[1], {})
            return 0, f'release "{match[1]}" uninstalled'
        if match := _EXEC.match(command):
            return self._execute(match[1], match[2], match[3], files[match[4]])
        if match := _READY.match(command):
            pods = self.releases[match[1]][match[2]]["replicas"]
            return 0, str(pods) if self._running(match[1], match[2]) else ""  # Kubernetes leaves out a 0
        return 127, f"command not found: {command}"

    def _install(self, release: str, values: dict[str, Any], files: dict[str, bytes]) -> tuple[int, str]:
        schema = json.loads(files["chart/values.schema.json"])
        merged = YAML(typ="safe").load(files["chart/values.yaml"].decode())
        overlay(merged, values)
        wrong = [each.message for each in Draft202012Validator(schema).iter_errors(merged)]
        tracks = {track: values[track]["image"] for track in ("stable", "canary") if values[track]["replicas"]}
        wrong += [
            f"ErrImagePull: {image}"
            for image in tracks.values()
            if image.partition("/")[2] not in self._registry.images
        ]
        if wrong:
            return 1, "Error: values don't meet the specifications of the schema(s): " + "; ".join(wrong)
        if release in self._pending:
            return 1, _PENDING
        if self.breaks_off:
            self.breaks_off = False
            self._pending[release] = self.releases.get(release)
            self._set_values(release, values)
            return 137, "command terminated"
        return self._set_values(release, values)

    def _set_values(self, release: str, values: dict[str, Any]) -> tuple[int, str]:
        """Give a release these values. Returns (helm's exit code, its output)."""
        self.releases[release] = values
        tracks = {track: values[track]["image"] for track in ("stable", "canary") if values[track]["replicas"]}
        ready = self._settle(release, tracks)
        return (0, "STATUS: deployed") if ready else (1, "Error: context deadline exceeded")

    def _settle(self, release: str, tracks: dict[str, str]) -> bool:
        """Run the images of a release's tracks, and stop its other pods. Returns whether all are ready."""
        for key in [key for key in self._servers if key[0] == release]:
            if tracks.get(key[1]) != self._servers[key][0]:
                self._servers.pop(key)[1].close()
        ready = True
        for track, image in tracks.items():
            if (release, track) not in self._servers:
                built = self._registry.images[image.partition("/")[2]]
                server = ModelContainer(
                    self._cloud.folder, built.bundle, f"{release}-{track}", container=built.container
                )
                self._servers[release, track] = (image, server)
                ready = server.wait() and ready
        return ready

    def _running(self, release: str, track: str) -> ModelContainer | None:
        """The server of a track's pods; None if they have ended."""
        server = self._servers.get((release, track), ("", None))[1]
        return server if server and server.is_running else None

    def _execute(self, release: str, track: str, module: str, stdin: bytes) -> tuple[int, str]:
        """Run a module beside the server of a track. Returns (exit code, output)."""
        server = self._running(release, track)
        if server is None:
            return 1, f'error: unable to upgrade connection: container not found ("{release}-{track}")'
        environment = environment_of_containers() | {"TUNEWRIGHT_TRIED": f"http://127.0.0.1:{server.port}/v1"}
        done = subprocess.run(
            [sys.executable, "-m", module], input=stdin, env=environment, capture_output=True, check=False
        )
        return done.returncode, (done.stdout if done.returncode == 0 else done.stderr).decode()


def _misnamed(release: str, namespace: str) -> str:
    """The message of Helm or Kubernetes about a name that it does not take (rule release-name); empty for other names.
    In the words of github.com/helm/helm, pkg/action/history.go, and of kubernetes.io/docs/concepts/overview/\
working-with-objects/names (read 2026-11-29)."""
    if len(release) > _LONGEST_RELEASE or not _RELEASE.fullmatch(release):
        return f"Error: release name is invalid: {release}"
    if len(namespace) > _LONGEST_NAMESPACE or not _NAMESPACE.fullmatch(namespace):
        return (
            f'Error: Namespace "{namespace}" is invalid: metadata.name: Invalid value: "{namespace}": a lowercase RFC '
            "1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
            "alphanumeric character"
        )
    return ""


def _is_for_clusters(token: str) -> bool:
    """Whether a token is for AKS' server application."""
    return bool(jwt.decode(token, options={"verify_signature": False})["aud"] == ENTRA_SERVER)
