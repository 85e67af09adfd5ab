"""Faults of Azure, one a row. Each ends in one clear paragraph, or loses nothing; nothing runs on that was not named;
and the same command does the rest once the fault is gone, and nothing twice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.backends.azure.conftest import MakeJob, ended, puts, uploaded
from tests.backends.azure.deploying import GOOD, SLOW, Deploying, Ready
from tests.exporters.outputs import with_outputs
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.cloud import BROKEN, HttpResponse, InjectedFault, error, half, html, lost, refusal, stays
from tunewright.azure_emulator.emulated_job import OVER, EmulatedJob
from tunewright.azure_emulator.endpoints import EndpointDeployment, Endpoints
from tunewright.backends.azure import assets, connection, follow, jobs, machines, schedule
from tunewright.backends.azure.backend import TAG, AzureBackend
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.registry import versions
from tunewright.backends.azure.store import BlobStore
from tunewright.config import Spec
from tunewright.core.artifacts import atomic_folder, read_manifest
from tunewright.core.errors import EXIT_GATE, EXIT_INTERRUPTED, EXIT_USER, GateFailed, UserError
from tunewright.deploy import apps, endpoint, images, live_endpoint
from tunewright.deploy.down import take_down
from tunewright.pipeline.steps import STEPS

FOR_EVER = 9999
EXPIRED = error(401, "ExpiredAuthenticationToken", "The token expired.")
LOCKED = error(409, "ScopeLocked", "The scope is locked.")
NO_JSON = HttpResponse(200, b"{", {"content-type": "application/json"})
NO_ROLE = error(403, "AuthorizationFailed", "No role.")
SLOW_DOWN = error(429, "TooManyRequests", "Slow.", Retry_After="0")
UNSIGNED = refusal(403, "AuthenticationFailed", "Server failed to authenticate the request.")
IDENTITY = (
    "/subscriptions/00000000-0000-0000-0000-00000000feed/resourceGroups/group/providers"
    "/Microsoft.ManagedIdentity/userAssignedIdentities/jobs"
)


def standing(azure: AzureEmulator, spec: Spec) -> set[str]:
    """The names of everything in the emulator that costs money, or may do so."""
    cloud, group = (
        azure.cloud,
        f"/subscriptions/{azure.cloud.subscription}/resourceGroups/{azure.cloud.group}/providers",
    )

    def ours(path: str) -> list[dict[str, Any]]:
        return [each for each in cloud.below(path) if (each.get("tags") or {}).get(TAG) == spec.name]

    found = {
        job.parent or name
        for name, job in list(azure.runner.jobs.items())
        if job.client_status not in OVER and (job.body.get("tags") or {}).get(TAG) == spec.name
    }
    found |= {
        each["name"]
        for each in cloud.below(f"{cloud.workspace}/schedules")
        if (each["properties"].get("tags") or {}).get(TAG) == spec.name
    }
    for each in ours(f"{cloud.workspace}/onlineEndpoints"):
        found |= {each["name"], *(version["name"] for version in cloud.below(f"{each['id']}/deployments"))}
    for each in ours(f"{group}/Microsoft.App/containerApps"):
        revisions = azure.apps._images.keys() - azure.apps._inactive
        found |= {name for name in revisions if name.startswith(f"{each['name']}--")}
    for values in azure.clusters.releases.values():
        tracks = [values[track] for track in ("stable", "canary") if values[track]["replicas"]]
        found |= {each["image"].rpartition(":")[2] for each in tracks if f"/{spec.name}:" in each["image"]}
    for each in cloud.below(f"{cloud.workspace}/computes"):
        own = each["properties"]
        least = ((own.get("properties") or {}).get("scaleSettings") or {}).get("minNodeCount") or 0
        moves = own.get("provisioningState", "Succeeded") not in ("Succeeded", "Failed")
        if least or moves or each["name"] in azure.runner.stuck:
            found.add(each["name"])
    return found


@dataclass(frozen=True)
class Seen:
    """The result of a command, as the user saw it."""

    code: int
    text: str

    def says(self, *texts: str) -> None:
        missing = [each for each in texts if each not in self.text]
        assert not missing, f"{missing} in\n{self.text}"


class Bench:
    """Runs the commands of one project, and asserts after each that nothing runs unmentioned."""

    def __init__(self, azure: AzureEmulator, spec: Spec, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.azure, self.spec, self.folder, self._capsys = azure, spec, folder, capsys
        self.tags = {TAG: spec.name}

    @property
    def at(self) -> connection.Connection:
        """Signed in to anew, as by each command."""
        return connect(self.spec)

    def breaks(self, pattern: str, answer: Any, times: int = FOR_EVER, after: int = 0) -> InjectedFault:
        fault = InjectedFault(pattern, answer, times, after)
        self.azure.cloud.faults.append(fault)
        return fault

    def types(self, command: Callable[[], object]) -> Seen:
        """A command, to its end. Any other error than those that the command line prints is one of the test."""
        before = standing(self.azure, self.spec)
        self._capsys.readouterr()
        code, last = 0, ""
        try:
            command()
        except UserError as fault:
            code, last = EXIT_USER, f"Error: {fault.paragraph()}"
        except GateFailed as fault:
            code, last = EXIT_GATE, f"Gate failed: {fault}"
        except KeyboardInterrupt:
            code = EXIT_INTERRUPTED
        out, err = self._capsys.readouterr()
        text = "\n".join((err, out, last))
        assert "Traceback" not in text and "\n" not in last.strip(), text
        unmentioned = {each for each in standing(self.azure, self.spec) - before if each not in text}
        assert not unmentioned, f"{unmentioned} run, and nobody was told:\n{text}"
        return Seen(code, text)

    def mended(self, command: Callable[[], object]) -> Seen:
        """The same command again, with the fault gone."""
        self.azure.cloud.faults.clear()
        self.azure.cloud.ahead = 0.0
        self.azure.runner.stuck.clear()
        seen = self.types(command)
        assert seen.code == 0, seen.text
        return seen

    def changes_nothing(self, command: Callable[[], object]) -> None:
        """Typed once more it finds all done."""
        first = len(self.azure.cloud.calls)
        assert self.types(command).code == 0
        made = [call for call in self.azure.cloud.calls[first:] if call.method not in ("GET", "HEAD")]
        assert not [str(call) for call in made if "login.microsoftonline" not in call.host]


@pytest.fixture
def bench(azure: AzureEmulator, job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Bench:
    return Bench(azure, job(), tmp_path, capsys)


@dataclass(frozen=True)
class Row:
    """A fault: what the emulator does to which requests, how often, and the message to the user."""

    name: str
    pattern: str
    answer: Any
    says: tuple[str, ...] = ()
    """Empty if the command recovers."""
    times: int = FOR_EVER
    after: int = 0


def rows(*table: Row) -> Any:
    return pytest.mark.parametrize("row", table, ids=lambda row: row.name)


def short(answer: HttpResponse) -> HttpResponse:
    """A fault: half of a blob, as if it were the whole blob."""
    body = answer.body[: len(answer.body) // 2]
    return replace(answer, body=body, headers=answer.headers | {"content-length": str(len(body))})


# Uploads: three files, of which the second is where it goes wrong.

BIG = r"PUT .*windows\.net/.*fault.*/b\.bin"


def uploading(bench: Bench) -> tuple[Callable[[], str], str]:
    """(the command, the name of the asset)."""
    folder = bench.folder / "up"
    folder.mkdir()
    for name in ("a.txt", "b.bin", "c.txt"):
        (folder / name).write_bytes(name.encode() * 60_000)
    name = f"fault-{bench.spec.name}"
    return lambda: assets.data_asset(bench.at, name, "1", folder, bench.tags), name


@rows(
    Row("401 in the middle", BIG, refusal(401, "InvalidAuthenticationInfo", "The token is expired."), ("az login",)),
    Row("412, a lease", BIG, refusal(412, "LeaseIdMissing", "There is a lease on the blob."), ("lease", "412")),
    Row("503 with HTML, for ever", BIG, html(503), ("503", "fault of Azure's")),
    Row("503 with HTML, twice", BIG, html(503), times=2),
    Row("cut, for ever", BIG, BROKEN, ("could not be reached", "goes on from there")),
    Row("cut, twice", BIG, BROKEN, times=2),
    Row("answer lost", BIG, lost, times=2),
    Row("firewall", BIG, refusal(403, "AuthorizationFailure", "Not authorized to do this."), ("firewall",)),
    Row("keys are off", BIG, refusal(403, "KeyBasedAuthenticationNotPermitted", "Not permitted."), ("takes no keys",)),
    Row("expired signature", BIG, UNSIGNED, ("a new one", "this machine's clock")),
    Row("asset: answer lost", r"PUT management.*/data/fault", lost, times=2),
    Row("asset: a lock", r"PUT management.*/data/fault", LOCKED, ("az lock list",)),
    Row("asset: 503 with HTML", r"PUT management.*/data/fault", html(503), ("503", "fault of Azure's")),
    Row("asset: a proxy's page with 200", r"GET management.*/data/fault", html(200), ("a page of HTML", "HTTPS_PROXY")),
    Row("asset: 200 without JSON", r"GET management.*/data/fault", NO_JSON, ("did not come from Azure",)),
)
def test_an_upload(bench: Bench, row: Row) -> None:
    command, name = uploading(bench)
    fault = bench.breaks(row.pattern, row.answer, row.times)
    seen = bench.types(command)
    assert seen.code == (EXIT_USER if row.says else 0), seen.text
    assert fault.times < row.times and (row.says or not fault.times)
    seen.says(*row.says)
    if row.says:
        assert bench.azure.cloud.get(f"{bench.azure.cloud.workspace}/data/{name}/versions/1") is None
    bench.mended(command)
    assert len(puts(bench.azure, f"{name}/1/a.txt")) == 1, "what was there whole goes up twice"
    bench.changes_nothing(command)
    prefix = f"tunewright/assets/{name}/1"
    down = bench.azure.storage.download(prefix, bench.folder / "down")
    assert {path.name: path.read_bytes() for path in down.iterdir()} == {
        path.name: path.read_bytes() for path in (bench.folder / "up").iterdir()
    }


def test_clocks_that_differ(bench: Bench) -> None:
    command, _ = uploading(bench)
    bench.azure.cloud.ahead = 7200
    bench.breaks(BIG, UNSIGNED)
    bench.types(command).says("clock is 120 minutes behind Azure's", "timedatectl")
    bench.azure.cloud.faults.clear()
    said = "AADSTS700024: Client assertion is not within its valid time range."
    bench.breaks(r"POST login", HttpResponse(401, {"error": "invalid_client", "error_description": said}))
    bench.types(command).says("This machine's clock differs from Azure's")
    bench.mended(command)


def test_no_name_resolution_and_a_proxy_with_a_sign_in(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    command, _ = uploading(bench)
    with monkeypatch.context() as away:
        for name in ("HTTPS_PROXY", "https_proxy"):
            away.setenv(name, "http://nowhere.invalid:3128")
        seen = bench.types(command)
        assert seen.code == EXIT_USER
        seen.says("could not be reached", "Check the network")
    bench.azure.proxy.requires_sign_in = True
    try:
        seen = bench.types(command)
    finally:
        bench.azure.proxy.requires_sign_in = False
    assert seen.code == EXIT_USER
    seen.says("The proxy wants a sign-in", "HTTPS_PROXY=http://NAME:PASSWORD@")
    bench.mended(command)


# Downloads: of three files the second is where it goes wrong.

SECOND = r"GET .*windows\.net/.*given/.*/b\.bin"


@rows(
    Row("cut half way, for ever", SECOND, half, ("was cut off", "goes on from there")),
    Row("cut half way, twice", SECOND, half, times=2),
    Row("cut before a word", SECOND, BROKEN, times=2),
    Row("half of it, for ever", SECOND, short, ("bytes", "not downloaded again")),
    Row("half of it, once", SECOND, short, times=1),
    Row("401 in the middle", SECOND, refusal(401, "InvalidAuthenticationInfo", "The token is expired."), ("az login",)),
    Row("503 with HTML", SECOND, html(503), ("503", "fault of Azure's")),
    Row("a proxy's page with 200", SECOND, html(200), ("a page of HTML", "Check the network")),
)
def test_a_download(bench: Bench, row: Row) -> None:
    prefix = f"given/{bench.spec.name}"
    files = {name: name.encode() * 60_000 for name in ("a.txt", "b.bin", "c.txt")}
    for name, content in files.items():
        bench.azure.storage.write(f"{prefix}/{name}", content)
    folder = bench.folder / "down"
    command = lambda: BlobStore(bench.at).download(prefix, folder)  # noqa: E731
    fault = bench.breaks(row.pattern, row.answer, row.times)
    seen = bench.types(command)
    assert seen.code == (EXIT_USER if row.says else 0), seen.text
    assert fault.times < row.times and (row.says or not fault.times)
    seen.says(*row.says)
    assert not (folder / "b.bin").exists() or not row.says, "what is not whole has no name"
    first = len(bench.azure.cloud.calls)
    bench.mended(command)
    assert not [call for call in bench.azure.cloud.calls[first:] if call.path.endswith("a.txt")]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


# Jobs: a step whose command is to copy an output that lies there.

MANAGED = r"management.*/jobs/tw-"


class Stepping(Bench):
    """Runs the step check there, with a quick job."""

    def __init__(self, azure: AzureEmulator, spec: Spec, folder: Path, capsys: pytest.CaptureFixture[str]):
        super().__init__(azure, spec, folder, capsys)
        self.ready = folder / "ready"
        with atomic_folder(
            self.ready, kind="check", fingerprint="f", spec_sha256="s", inputs={}, seed=0, code_version="c"
        ) as output:
            (output.path / "findings.json").write_text('{"findings": []}' * 100, "utf-8")
        self.target = spec.folder / "runs" / "check-1"
        self.force = False

    def __call__(self) -> None:
        place = AzureBackend(self.spec, self.at, lambda *_: None, to="check", force=self.force, ready=lambda: None)
        with place:
            place(STEPS["check"], {}, self.target)

    @property
    def jobs(self) -> list[EmulatedJob]:
        return [
            job for job in self.azure.runner.jobs.values() if (job.body.get("tags") or {}).get(TAG) == self.spec.name
        ]

    def is_done(self, tries: int = 1) -> None:
        assert read_manifest(self.target) == read_manifest(self.ready)
        assert len(self.jobs) == tries, [job.name for job in self.jobs]
        assert not standing(self.azure, self.spec)


@pytest.fixture
def step(
    azure: AzureEmulator,
    job: MakeJob,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Stepping:
    made = Stepping(azure, job(azure={"budget_usd": 0.1}), tmp_path, capsys)
    monkeypatch.setattr(
        jobs, "command_line", lambda *_: f"cat ${{{{inputs.code}}}} | wc -c; cp -r {made.ready}/. ${{{{outputs.out}}}}"
    )
    monkeypatch.setattr(assets, "package_files", list)  # the job does without the package
    monkeypatch.setattr(follow, "_FASTEST", 0.2)
    monkeypatch.setattr(follow, "_SLOWEST", 0.3)
    monkeypatch.setattr(follow, "_PATIENCE_SECONDS", 1.0)
    return made


def refused_there(answer: HttpResponse) -> HttpResponse:  # noqa: ARG001
    """A fault: Azure takes the job, and another process of ours got the answer."""
    return error(409, "Conflict", "A job with this name already exists.")


@rows(
    Row("submitted, and the answer lost", f"PUT {MANAGED}", lost, times=6),
    Row("submitted by another process meanwhile", f"PUT {MANAGED}", refused_there, times=1),
    Row("submission throttled", f"PUT {MANAGED}", SLOW_DOWN, times=2),
    Row("polling cut", f"GET {MANAGED}", BROKEN, times=8, after=1),
    Row("polling answered by a page", f"GET {MANAGED}", html(200), times=8, after=1),
    Row("polling answered without JSON", f"GET {MANAGED}", NO_JSON, times=3, after=1),
    Row("no run history", r"GET .*/history/.*/details", error(404, "NotFound", "No run."), times=FOR_EVER),
    Row("run history cut", r"GET .*/history/.*/details", BROKEN, times=FOR_EVER),
    Row("no log", r"GET .*windows\.net/.*std_log", refusal(404, "BlobNotFound", "No blob."), times=FOR_EVER),
    Row("log's address expired", r"GET .*windows\.net/.*std_log", UNSIGNED, times=FOR_EVER),
    Row("log cut half way", r"GET .*windows\.net/.*std_log", half, times=FOR_EVER),
)
def test_a_step_gets_over_it(step: Stepping, row: Row) -> None:
    fault = step.breaks(row.pattern, row.answer, row.times, row.after)
    seen = step.types(step)
    assert seen.code == 0, seen.text
    assert fault.times < row.times
    step.is_done()


def test_a_submission_of_which_nothing_is_known(step: Stepping) -> None:
    """No answer, and Azure can't be asked: the message names the job, and the next command finds it."""
    step.breaks(f"PUT {MANAGED}", lost)
    step.breaks(f"GET {MANAGED}", html(503), after=1)
    seen = step.types(step)
    assert seen.code == EXIT_USER
    (made,) = step.jobs
    seen.says(f"the job {made.name} may run", f"az ml job cancel --name {made.name}", "$0.19 an hour")
    step.mended(step).says("was submitted before")
    step.is_done()


def test_an_interruption_as_a_job_is_submitted(step: Stepping, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    from azure.ai.ml.operations import JobOperations

    submit = JobOperations.create_or_update
    monkeypatch.setattr(JobOperations, "create_or_update", lambda self, job: interrupted(submit(self, job)))
    monkeypatch.setattr(jobs, "command_line", lambda *_: "sleep 60")
    seen = step.types(step)
    assert seen.code == EXIT_INTERRUPTED
    seen.says(f"{step.jobs[0].name} is cancelled")
    ended(step.azure)


def test_a_sign_in_that_ends_while_a_job_is_followed(step: Stepping) -> None:
    step.breaks(f"GET {MANAGED}", EXPIRED, after=1)
    seen = step.types(step)
    assert seen.code == EXIT_USER
    seen.says("az login", f"the job {step.jobs[0].name} runs on, for at most $0.19 an hour")
    step.mended(step).says("was submitted before")
    step.is_done()


def test_a_name_that_somebody_elses_job_has(step: Stepping) -> None:
    """It is neither followed nor cancelled, and its output does not count as ours."""
    step.types(step)
    (first,) = step.jobs
    theirs = replace(first, body=first.body | {"tags": {}}, status="Running")
    step.azure.runner.jobs[first.name] = theirs
    kept = step.azure.cloud.get(f"{step.azure.cloud.workspace}/jobs/{first.name}")
    assert kept
    kept["properties"] = kept["properties"] | {"tags": {}}
    shutil.rmtree(step.target)
    seen = step.types(step)
    assert seen.code == 0, seen.text
    seen.says(f"job {first.name}-2: check")
    assert not theirs.cancelled
    theirs.status = "Completed"
    step.is_done()


@pytest.mark.parametrize("gone", [False, True], ids=["stuck in Resizing", "deleted"])
def test_a_cluster_that_gives_no_machine(step: Stepping, monkeypatch: pytest.MonkeyPatch, gone: bool) -> None:
    step.spec = step.spec.model_copy(update={"azure": step.spec.azure.model_copy(update={"cpu": "Standard_F32s_v2"})})
    name = machines.cluster(step.at, STEPS["check"], step.spec, step.tags)
    path = f"{step.azure.cloud.workspace}/computes/{name}"
    cluster = step.azure.cloud.get(path)
    assert cluster
    step.azure.runner.stuck.add(name)
    cluster["properties"]["properties"] |= {"allocationState": "Resizing", "currentNodeCount": 1}
    if gone:
        step.breaks(f"GET {MANAGED}", lambda answer: (step.azure.cloud.remove(path), answer)[1], times=1, after=2)
    else:
        monkeypatch.setattr(follow, "_BEFORE", {status: (what, 1.0) for status, (what, _) in follow._BEFORE.items()})
    seen = step.types(step)
    assert seen.code == EXIT_USER
    if gone:
        seen.says(f"Compute target '{name}' was deleted")
    else:
        seen.says("did not begin", f"The cluster {name} is resizing; machines now: 1", "is cancelled")
    ended(step.azure)
    monkeypatch.setattr(follow, "_BEFORE", {status: (what, 60.0) for status, (what, _) in follow._BEFORE.items()})
    step.mended(step)
    step.is_done(tries=2)


def test_an_image_that_can_not_be_built(step: Stepping) -> None:
    step.azure.runner.image_log = "Step 3/7\nERROR: No matching distribution found for torch==9.9"
    seen = step.types(step)
    assert seen.code == EXIT_USER
    seen.says("Image build failed", "its image's build ends", "No matching distribution found for torch==9.9")
    step.mended(step)
    step.is_done(tries=2)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("true", "it is empty"),
        ("cp {ready}/findings.json ${{{{outputs.out}}}}", "it has no manifest.json"),
        (
            "cp -r {ready}/. ${{{{outputs.out}}}}; truncate -s -3 ${{{{outputs.out}}}}/findings.json",
            "not those of its manifest.json",
        ),
    ],
    ids=["empty", "without a manifest", "truncated"],
)
def test_an_output_that_is_not_whole(step: Stepping, monkeypatch: pytest.MonkeyPatch, what: str, says: str) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(jobs, "command_line", lambda *_: what.format(ready=step.ready))
        seen = step.types(step)
    assert seen.code == EXIT_USER
    seen.says("is not whole", says, "--force")
    assert not step.target.exists()
    assert step.types(step).code == EXIT_USER, "the finished job is looked at again, and is what it was"
    assert len(step.jobs) == 1
    step.force = True
    step.mended(step)
    step.is_done(tries=2)


def test_an_output_that_comes_changed_comes_again(step: Stepping) -> None:
    """The output in the storage is whole, so nothing has to run again."""
    changed = lambda answer: replace(answer, body=b"#" + answer.body[1:])  # noqa: E731
    fault = step.breaks(r"GET .*windows\.net/.*findings\.json", changed, times=1)
    assert step.types(step).code == 0 and fault.times == 0
    step.is_done()


def test_a_failed_step_whose_words_can_not_be_read(step: Stepping, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(jobs, "command_line", lambda *_: "exit 7")
        step.breaks(r"GET .*windows\.net/.*error\.txt", refusal(403, "AuthorizationFailure", "Not authorized."))
        seen = step.types(step)
    assert seen.code == EXIT_USER
    seen.says("The step check failed in Azure", "status code 7")
    step.mended(step)
    step.is_done(tries=2)


def test_a_clock_that_is_wrong_spends_no_budget(step: Stepping, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this machine's clock each job began two hours ago and cost $0.38, more than the $0.10 that it may cost."""
    monkeypatch.setattr(jobs, "command_line", lambda *_: f"sleep 2; cp -r {step.ready}/. ${{{{outputs.out}}}}")
    step.azure.cloud.ahead = -7200
    seen = step.types(step)
    assert seen.code == 0, seen.text
    step.is_done()


# Clusters and environments.


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (stays("Failed"), ("could not make the cluster",)),
        (error(400, "ClusterCoreQuotaReached", "Quota is used up."), ("Quotas", "azure.gpu=")),
    ],
    ids=["making it fails", "quota taken since the preflight"],
)
def test_a_cluster_that_is_not_made(bench: Bench, answer: Any, says: tuple[str, ...]) -> None:
    size = "Standard_F4s_v2"  # of which no other test makes a cluster
    spec = bench.spec.model_copy(
        update={"azure": bench.spec.azure.model_copy(update={"cpu": size, "low_priority": False})}
    )
    name = machines.cluster_names(size, False, False)[1]
    taken = machines.cluster_names(size, False, False)[0]
    machines.cluster(bench.at, STEPS["check"], bench.spec, {})  # has the usual name
    assert bench.azure.cloud.get(f"{bench.azure.cloud.workspace}/computes/{taken}")
    path = f"{bench.azure.cloud.workspace}/computes/{name}"
    bench.azure.cloud.remove(path)
    command = lambda: machines.cluster(bench.at, STEPS["check"], spec, bench.tags)  # noqa: E731
    bench.breaks(rf"PUT .*/computes/{name}$", answer)
    seen = bench.types(command)
    assert seen.code == EXIT_USER
    seen.says(name, *says)
    if kept := bench.azure.cloud.get(path):
        kept["properties"]["provisioningState"] = "Failed"
    bench.mended(command)
    assert (bench.azure.cloud.get(path) or {})["properties"]["provisioningState"] == "Succeeded"
    bench.changes_nothing(command)
    bench.azure.cloud.remove(path)


def test_a_cluster_that_is_being_changed_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_LONGEST_CHANGE", 0.3)
    command = lambda: machines.cluster(bench.at, STEPS["check"], bench.spec, bench.tags)  # noqa: E731
    name = command()
    bench.breaks(rf"GET .*/computes/{name}$", stays("Updating"))
    seen = bench.types(command)
    assert seen.code == EXIT_USER
    seen.says(f"The cluster {name} has been updating", "No job was submitted")
    bench.mended(command)


@pytest.mark.parametrize("there", [True, False], ids=["another process made it", "and it is not there"])
def test_an_environment_with_409(bench: Bench, job: MakeJob, there: bool) -> None:
    spec = job(
        name="e-there" if there else "e-absent", azure={"base_images": {"jobs": f"mine.azurecr.io/{bench.spec.name}:1"}}
    )
    command = lambda: assets.environment(bench.at, spec, bench.tags)  # noqa: E731
    if there:
        command()
    bench.breaks(
        r"GET management.*/environments/tunewright-steps/versions/",
        error(404, "NotFound", "No."),
        times=1 if there else 2,
    )
    fault = bench.breaks(r"PUT management.*/environments/", error(409, "Conflict", "It exists and can't be changed."))
    seen = bench.types(command)
    assert fault.times < FOR_EVER
    assert seen.code == (0 if there else EXIT_USER), seen.text
    if not there:
        seen.says("tunewright-steps", "Another operation uses it")
    bench.mended(command)
    bench.changes_nothing(command)


# What is deployed.


@pytest.fixture
def serving(
    project: Deploying, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[Bench, Deploying]:
    for module in (endpoint, live_endpoint):
        monkeypatch.setattr(module, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(apps, "_STUCK_SECONDS", 0.5)
    return Bench(project.azure, project.spec, tmp_path, capsys), project


ENDPOINT, VERSION = r"/onlineEndpoints/[^/]+$", r"/onlineEndpoints/[^/]+/deployments/[^/]+$"
APP = r"/containerApps/[^/]+$"
NOTHING = "Nothing of the new version is left"


@pytest.mark.parametrize(
    ("to", "row"),
    [
        (
            "aml",
            Row(
                "endpoint stuck in Updating",
                f"(PUT|GET) .*{ENDPOINT}",
                stays("Updating"),
                ("has not finished with", "tw-"),
            ),
        ),
        (
            "aml",
            Row(
                "quota taken since the preflight",
                f"PUT .*{VERSION}",
                error(400, "OutOfQuota", "None is left."),
                (NOTHING, "traffic.machine="),
            ),
        ),
        ("aml", Row("401 in the middle", f"(PUT|GET) .*{VERSION}", EXPIRED, ("az login",), times=9)),
        ("aml", Row("answer lost, for ever", f"PUT .*{VERSION}", lost, ("could not be reached", NOTHING), times=6)),
        ("aml", Row("503 with HTML", f"PUT .*{VERSION}", html(503), (NOTHING, "fault of Azure's"))),
        (
            "aml",
            Row("200 without JSON", f"PUT .*{ENDPOINT}", NO_JSON, ("did not come from Azure",), times=1),
        ),
        ("aca", Row("never ready", f"GET .*{APP}", stays("InProgress"), ("did not start (InProgress)", NOTHING))),
        ("aca", Row("a page with 200", f"(PUT|PATCH) .*{APP}", html(200), ("a page of HTML",))),
        ("aca", Row("403", f"(PUT|PATCH) .*{APP}", NO_ROLE, ("azure preflight",))),
        (
            "aks",
            Row(
                "cluster's answer lost", r"GET .*/commandResults/", BROKEN, ("could not be reached",), times=6, after=3
            ),
        ),
    ],
    ids=lambda value: getattr(value, "name", value),
)
@pytest.mark.parametrize("beside", [False, True], ids=["first", "second"])
def test_a_deployment(serving: tuple[Bench, Deploying], to: str, row: Row, beside: bool) -> None:
    """The first version, and a version beside the one that serves, which then serves on."""
    bench, project = serving
    old = project.release(to) if beside else None
    bundle = "two" if beside else "one"
    command = lambda: project.release(to, bundle)  # noqa: E731
    bench.breaks(row.pattern, row.answer, row.times, row.after)
    seen = bench.types(command)
    assert seen.code == EXIT_USER, seen.text
    seen.says(*row.says)
    if old:
        bench.azure.cloud.faults.clear()
        assert project.serving(to) == {old.fresh: 100}
    bench.mended(command)
    assert project.state(to).shares == {project.target(to, bundle).fresh: 100}
    bench.mended(command).says("serves already")


def test_a_deployment_that_fails(serving: tuple[Bench, Deploying], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, project = serving

    def failed(_: Endpoints, key: str, standing: EndpointDeployment, properties: dict[str, Any]) -> None:  # noqa: ARG001
        standing.server, standing.state = Ready(), "Failed"

    with monkeypatch.context() as broken:
        broken.setattr(Endpoints, "_start", failed)
        seen = bench.types(lambda: project.release("aml"))
    assert seen.code == EXIT_USER
    seen.says("failed", NOTHING)
    bench.mended(lambda: project.release("aml"))


@pytest.mark.parametrize("to", ["aml", "aca"])
def test_a_deletion_that_is_refused_after_a_failed_trial(serving: tuple[Bench, Deploying], to: str) -> None:
    bench, project = serving
    old = project.release(to)
    gone = {"aml": f"DELETE .*{VERSION}", "aca": r"POST .*/deactivate"}[to]
    bench.breaks(gone, LOCKED)
    project.finds = lambda: SLOW
    seen = bench.types(lambda: project.release(to, "two"))
    assert seen.code == EXIT_USER
    seen.says("P95 is", "is locked", "Still deployed", "an hour", "--rollback")
    assert project.serving(to) == {old.fresh: 100}
    project.finds = lambda: GOOD
    bench.mended(lambda: project.release(to, "two"))
    assert list(project.state(to).shares) == [project.target(to, "two").fresh]


@pytest.mark.parametrize("to", ["aml", "aca"])
def test_traffic_that_is_refused_in_a_rollout(serving: tuple[Bench, Deploying], to: str) -> None:
    bench, project = serving
    old = project.release(to)
    moves = {"aml": f"PUT .*{ENDPOINT}", "aca": f"PATCH .*{APP}"}[to]
    bench.breaks(moves, error(409, "Conflict", "Another change is under way."), times=1, after=1)
    seen = bench.types(lambda: project.release(to, "two", canary=10))
    assert seen.code == EXIT_USER
    seen.says("Another change is under way", "again in some minutes")
    assert project.serving(to) == {old.fresh: 100}
    bench.mended(lambda: project.release(to, "two", canary=10))
    assert project.serving(to)[old.fresh] == 90


def test_a_helm_upgrade_that_is_broken_off(serving: tuple[Bench, Deploying]) -> None:
    """Helm then refuses everything until somebody rolls back: the message names what exists, and the command."""
    bench, project = serving
    old = project.release("aks")
    bench.azure.clusters.breaks_off = True
    seen = bench.types(lambda: project.release("aks", "two"))
    assert seen.code == EXIT_USER
    seen.says("another operation (install/upgrade/rollback)", "helm rollback", "Still deployed", "azure down")
    assert [each.kind for each in api.standing(bench.spec) if each.kind == "Helm release"], "azure ls finds it"
    bench.types(lambda: project.release("aks", "two")).says("helm rollback")
    at = project.at
    from tunewright.deploy.cluster import Cluster

    Cluster(at).run(f"helm rollback {old.name} --namespace {old.name}")
    bench.mended(lambda: project.release("aks", "two"))
    assert project.state("aks").shares == {project.target("aks", "two").fresh: 100}


@pytest.mark.parametrize(
    ("to", "pattern"),
    [("aml", f"DELETE .*{ENDPOINT}"), ("aca", f"DELETE .*{APP}")],
)
def test_what_can_not_be_taken_down(serving: tuple[Bench, Deploying], to: str, pattern: str) -> None:
    bench, project = serving
    name = project.release(to).name
    bench.breaks(pattern, LOCKED)
    command = lambda: take_down(api.standing(bench.spec))  # noqa: E731
    seen = bench.types(command)
    assert seen.code == EXIT_USER
    seen.says("These still exist", name, "is locked")
    bench.mended(command)
    assert not standing(bench.azure, bench.spec)


def test_a_job_that_does_not_let_itself_be_cancelled(step: Stepping, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunewright.deploy import down

    monkeypatch.setattr(down, "_CANCELLING_SECONDS", 0.3)
    monkeypatch.setattr(jobs, "command_line", lambda *_: "sleep 60")
    step.breaks(f"GET {MANAGED}", EXPIRED, after=2)
    step.types(step).says("runs on")
    step.azure.cloud.faults.clear()
    with monkeypatch.context() as stuck:
        stuck.setattr(step.azure.runner, "cancel", lambda _: None)
        seen = step.types(lambda: take_down(api.standing(step.spec)))
    assert seen.code == EXIT_USER
    seen.says("These still exist", step.jobs[0].name, "still being cancelled")
    monkeypatch.setattr(down, "_CANCELLING_SECONDS", 30)
    step.mended(lambda: take_down(api.standing(step.spec)))
    assert step.jobs[0].status == "Canceled"


# Images, schedules, models.


@rows(
    Row("throttled", r"POST .*/scheduleRun$", SLOW_DOWN, times=2),
    Row("address expired", r"PUT .*windows\.net/.*builds/", UNSIGNED, ("a new one",)),
    Row("upload cut", r"PUT .*windows\.net/.*builds/", BROKEN, times=2),
    Row("cut while it is built", r"GET .*/runs/cb", BROKEN, ("could not be reached", "az acr task cancel-run")),
    Row("page while it is built", r"GET .*/runs/cb", html(200), ("a page of HTML", "az acr task cancel-run")),
    Row("a registry that refuses", r"POST .*/listBuildSourceUploadUrl$", NO_ROLE, ("azure preflight",)),
)
def test_a_build(bench: Bench, row: Row) -> None:
    folder = bench.folder / "context"
    (folder / "infra" / "docker").mkdir(parents=True)
    (folder / "infra" / "docker" / "Dockerfile").write_text("FROM scratch AS it\n", "utf-8")
    image = f"tunewright/{bench.spec.name}:1"

    def command() -> None:
        at = bench.at
        registry = images.registry_of(at)
        if not images.is_built(at, registry, image):
            images.build(at, registry, image, folder, "it")

    bench.breaks(row.pattern, row.answer, row.times)
    seen = bench.types(command)
    assert seen.code == (EXIT_USER if row.says else 0), seen.text
    seen.says(*row.says)
    bench.mended(command)
    bench.changes_nothing(command)


def test_a_schedule_that_is_being_made_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LONGEST", 0.3)
    spec = bench.spec.model_copy(update={"azure": bench.spec.azure.model_copy(update={"identity": IDENTITY})})
    command = lambda: api.schedule(spec, "month", 3)  # noqa: E731
    bench.breaks(r"(PUT|GET) .*/schedules/tw-", stays("Creating"))
    seen = bench.types(command)
    assert seen.code == EXIT_USER
    seen.says("not finished with the schedule tw-")
    monkeypatch.setattr(schedule, "LONGEST", 60)
    bench.mended(command)
    bench.mended(lambda: take_down(api.standing(spec)))
    assert not standing(bench.azure, bench.spec)


@rows(
    Row("registration refused", r"PUT management.*/models/", NO_ROLE, ("azure preflight",)),
    Row("registered, and the answer lost", r"PUT management.*/models/", lost, times=6),
    Row("409", r"PUT management.*/models/", error(409, "Conflict", "The version exists."), ("The version exists",)),
)
def test_a_model(bench: Bench, row: Row) -> None:
    with_outputs(bench.spec)
    parcel = api.parcel(bench.spec, "merged", "azureml")
    command = lambda: api.push(bench.spec, parcel, "azureml")  # noqa: E731
    bench.breaks(row.pattern, row.answer, row.times)
    seen = bench.types(command)
    assert seen.code == (EXIT_USER if row.says else 0), seen.text
    seen.says(*row.says)
    first = len(bench.azure.cloud.calls)
    bench.mended(command)
    assert uploaded(bench.azure, first) == 0, "it went up before"
    assert [each.version for each in versions(bench.at, f"tunewright-{bench.spec.name}-merged")] == ["1"]
    bench.changes_nothing(command)
