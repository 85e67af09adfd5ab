"""The backend for Azure: the steps that are due go up as one job, and each step's output comes down to its folder."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tunewright.backends.azure import assets, machines
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.follow import OVER, JobFollower, Stopped
from tunewright.backends.azure.jobs import JobWork, job_of, output_of
from tunewright.backends.azure.node import ERROR, INPUT
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.backends.azure.sources import Source, needed, sources_of, taken_along
from tunewright.backends.azure.spending import RunSpending
from tunewright.backends.azure.store import DATASTORE, FOLDER, BlobStore
from tunewright.backends.azure.waiting import Wait
from tunewright.backends.ending import names_memory
from tunewright.config import Spec
from tunewright.config.sections import ENTRA
from tunewright.core.artifacts import MANIFEST, Manifest, partial_of, read_manifest, sha256_json, sha256_tree
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.pipeline.fingerprint import lineage_hashes
from tunewright.pipeline.runner import Backend, due
from tunewright.pipeline.steps import Step

TAG = "tunewright"
"""The tag of everything that Tunewright makes in Azure; its value is the spec's name."""
_TRIES = 50
_FETCHES = 2
"""How often an output that does not arrive whole is downloaded before it counts as broken in the storage."""
_CANCELLING = "CancelRequested"
_CANCELLING_SECONDS = 180.0


@dataclass(frozen=True)
class Submitted:
    """A job that was submitted now or by an earlier command."""

    job: str
    follower: JobFollower
    limits: Mapping[str, int]
    """Seconds after which Azure ends each step; empty if an earlier command submitted it."""


class AzureBackend:
    """Runs steps in the workspace that a spec means. As a context it cancels, at its end, the jobs that nobody waits
    for, or says which job runs on.

    Args:
        local: the backend of steps that ask an API with a key, because the key does not leave this machine.
        to: the last step to run.
        force: whether to repeat work that was done in Azure before.
        ready: called once before anything is made in Azure. It raises if something is in the way.
        spending: what the run has cost so far, if these steps are a part of it; by default they are the run.
    """

    def __init__(
        self,
        spec: Spec,
        at: Connection,
        local: Backend,
        *,
        to: str,
        force: bool,
        ready: Callable[[], None],
        spending: RunSpending | None = None,
    ):
        self._spec, self._at, self._local, self._to, self._force = spec, at, local, to, force
        self._spending = spending or RunSpending(spec, to)
        self._ready: Callable[[], None] | None = ready
        self._submitted: dict[str, Submitted] = {}
        """By step, until its output is here."""
        self._tags = {TAG: spec.name}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Jobs with steps that were not fetched: either those steps turned out to be up to date, or something failed.
        for follower in {id(each.follower): each.follower for each in self._submitted.values()}.values():
            if error is None or isinstance(error, KeyboardInterrupt | Stopped):
                follower.cancel()
            else:
                follower.report_running()

    def __call__(self, step: Step, done: Mapping[str, Path], target: Path) -> None:
        """Run a step in Azure and bring its output to `target`.

        Raises:
            UserError: Azure refuses, the step ended with an error, or the budget is reached.
        """
        if stays_here(step, self._spec):
            say(f"  {step.name} asks an API with a key and runs on this machine")
            self._local(step, done, target)
            return
        if step.name not in self._submitted:
            self._submit(step, done, target)
        submitted = self._submitted[step.name]
        run = submitted.follower.step(step)
        if run.status != "Completed":
            raise self._failed(step, submitted, run, done)
        self._fetch(step, submitted.job, target)
        del self._submitted[step.name]

    def _submit(self, step: Step, done: Mapping[str, Path], target: Path) -> None:
        """Submit a step with all later ones that will be due after it, or find the job that an earlier command
        submitted."""
        chain = self._chain(step, done, target.parent)
        lineage = lineage_hashes(self._spec, chain[-1].name)
        base = self._base(chain, target, lineage)
        name, known = self._try(base)
        self._spending.count_earlier(self._at, name, force=self._force)
        budget = max(self._spec.azure.budget_usd - self._spending.usd, 0.0)
        limits = {} if known else machines.limits(chain, self._spec, budget)
        rates = {each.name: self._rate(each) for each in chain}
        follower = JobFollower(self._at, name, rates, budget)
        if known is None:
            work = self._work(name, base, chain, done, lineage, limits, self._tags | self._spending.tag(rates))
            self._send(name, job_of(work, self._spec), follower)
            say(f"  azure: job {name}: {', '.join(each.name for each in chain)}")
        else:
            say(f"  azure: job {name} was submitted before and is {known.status.lower()}")
        self._spending.add(name, follower)
        self._submitted |= {each.name: Submitted(name, follower, limits) for each in chain}

    def _send(self, name: str, job: Any, follower: JobFollower) -> None:
        """Submit a job. If no answer or a refusal comes, look for the job: it may run all the same.

        Raises:
            UserError: it does not run, or Azure can't say whether it does (a line tells the user so).
        """
        try:
            with azure_errors(f"the job {name}"):
                submitted = self._at.ml.jobs.create_or_update(job)
        except KeyboardInterrupt:
            follower.cancel()
            raise
        except UserError as error:
            try:
                submitted = self._job(name)
            except UserError:
                follower.report_running(is_sure=False)
                raise error from error.__cause__
            if submitted is None or not self._is_ours(submitted):
                raise
            say(f"  azure: the answer was lost, but the job {name} is there")
        if submitted.studio_url:
            say(f"  azure: {submitted.studio_url}")

    def _is_ours(self, job: Any) -> bool:
        """Whether a job is this project's, by its tag: anybody can give a job any name."""
        return bool((job.tags or {}).get(TAG) == self._spec.name)

    def _work(
        self,
        name: str,
        base: str,
        chain: Sequence[Step],
        done: Mapping[str, Path],
        lineage: Mapping[str, str],
        limits: Mapping[str, int],
        tags: Mapping[str, str],
    ) -> JobWork:
        """Upload everything that a job needs, and return its work. `tags` are the job's."""
        if self._ready:
            self._ready()
            self._ready = None
        # First of all: a base model that can't be fetched (a token may be missing) must fail before anything is made.
        sources = taken_along(self._spec, chain)
        # Clusters next: Azure may refuse them, so ask before gigabytes go up.
        clusters = {step.name: machines.cluster(self._at, step, self._spec, self._tags) for step in chain}
        in_job = {step.name for step in chain}
        return JobWork(
            name=name,
            title=base,
            steps=chain,
            given={
                each: assets.output_asset(self._at, self._spec, each, done[each], self._tags)
                for step in chain
                for each in step.inputs_of(self._spec)
                if each not in in_job
            },
            sources=self._sources(chain, sources),
            clusters=clusters,
            limits=limits,
            code=assets.code_asset(self._at, f"{TAG}-{self._spec.name}-code", spec_text(self._spec), self._tags),
            environment=assets.environment(self._at, self._spec, self._tags),
            tags=tags,
            # Not named by the job: the next job may begin with a later step, and must still go on from there.
            kept={
                step.name: f"{FOLDER}/kept/{self._spec.name}-{step.name}-{lineage[step.name][:12]}"
                for step in chain
                if step.resumes
            },
        )

    def _chain(self, step: Step, done: Mapping[str, Path], runs: Path) -> list[Step]:
        """The step and the later ones that can go up with it as one job."""
        chain = [step]
        for later in due(self._spec, step, self._to, done, runs):
            if stays_here(later, self._spec):
                break
            chain.append(later)
        return chain

    def _base(self, chain: Sequence[Step], target: Path, lineage: Mapping[str, str]) -> str:
        """The name of the work, which depends on the steps, their data and their code. The machines and the budget are
        not part of it, so that the same work goes on with a larger budget."""
        identity = [target.name, {step.name: lineage[step.name] for step in chain}]
        steps = chain[0].name if len(chain) == 1 else f"{chain[0].name}-{chain[-1].name}"
        return f"tw-{self._spec.name[:30]}-{steps}-{sha256_json(identity)[:12]}"

    def _try(self, base: str) -> tuple[str, Any]:
        """(the name of the try that runs or succeeded, its job), or (a free name, None)."""
        for number in range(1, _TRIES):
            name = base if number == 1 else f"{base}-{number}"
            known = self._job(name)
            if known is not None and not self._is_ours(known):
                continue
            if known is not None and known.status == _CANCELLING:
                known = self._once_cancelled(name)
            if known is None:
                return name, None
            if known.status not in OVER or (known.status == "Completed" and not self._force):
                return name, known
        raise UserError(
            f"The job {base} was tried {_TRIES} times.", fix="See the reason in the studio, then change something."
        )

    def _job(self, name: str) -> Any:
        with azure_errors(f"the job {name}"):
            return found(self._at.ml.jobs.get, name)

    def _once_cancelled(self, name: str) -> Any:
        """Wait until a job is cancelled, because two jobs must not write the same checkpoints.

        Raises:
            UserError: it is not cancelled after some minutes.
        """
        say(f"  azure: job {name} is still being cancelled")
        wait, what = Wait(), f"the job {name} to be cancelled"
        while (known := self._job(name)).status == _CANCELLING:
            # The job may run on other machines than the spec names by now, so its price is unknown.
            if wait.look(what, _CANCELLING_SECONDS, "its machines cost until then"):
                raise UserError(f"The job {name} is still being cancelled.", fix="Type the same command in a minute.")
            time.sleep(1)
        return known

    def _sources(self, chain: Sequence[Step], sources: Mapping[str, Source]) -> dict[str, list[tuple[Source, str]]]:
        """The user's files that each step reads, as assets."""
        keys_by_step = {step.name: needed(step, sources) for step in chain}
        addresses = {}
        for key in dict.fromkeys(key for keys in keys_by_step.values() for key in keys):
            source = sources[key]
            with tempfile.TemporaryDirectory() as scratch:
                name = source.asset(self._spec.name)
                folder = source.laid_out(Path(scratch) / source.name)
                addresses[key] = assets.data_asset(self._at, name, source.sha256[: assets.DIGITS], folder, self._tags)
        return {step: [(sources[key], addresses[key]) for key in keys] for step, keys in keys_by_step.items()}

    def _rate(self, step: Step) -> float:
        """USD an hour of a step's machines."""
        price = machines.price_of(machines.size_of(step, self._spec), self._spec)
        return price.usd_per_hour * machines.nodes_of(step, self._spec)

    def _fetch(self, step: Step, job: str, target: Path) -> None:
        """Download a step's output, and keep it in Azure under its hash, so that it never has to go up again."""
        prefix = output_of(job, step.name)
        # A folder for this job alone: files of another try or of a local run must not get into it.
        folder = target.with_name(f".{target.name}.{job}")
        manifest = self._download(step, prefix, folder)
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
        shutil.rmtree(partial_of(target), ignore_errors=True)
        assets.kept_output(
            self._at, f"{TAG}-{self._spec.name}-{step.name}", manifest.content, f"{DATASTORE}{prefix}", self._tags
        )

    def _download(self, step: Step, prefix: str, folder: Path) -> Manifest:
        """Download an output into a folder, and once more if it arrives changed.

        Raises:
            UserError: it is not whole in the storage, or can't be downloaded.
        """
        why = ""
        for _ in range(_FETCHES):
            files = BlobStore(self._at).download(prefix, folder)
            manifest = read_manifest(folder)
            if manifest is not None and sha256_tree(folder)[0] == manifest.content:
                return manifest
            missing = "it has no manifest.json" if files else "it is empty"
            why = "its files are not those of its manifest.json" if (folder / MANIFEST).exists() else missing
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(
            f"The output of {step.name} in Azure is not whole: {why}.",
            where=f"{DATASTORE}{prefix}",
            fix="Type the same command with --force.",
        )

    def _failed(self, step: Step, submitted: Submitted, run: Any, done: Mapping[str, Path]) -> UserError:
        """The error about a step that did not complete."""
        job, limit = submitted.job, submitted.limits.get(step.name)
        if message := self._error_message(job, step):
            here: dict[str, Path] = {key: source.here for key, source in sources_of(self._spec).items()} | dict(done)
            # The longest first, because one name may begin another.
            for name in sorted(here, key=len, reverse=True):
                message = message.replace(INPUT + name, str(here[name]))
            return Stopped(message)
        if limit and (submitted.follower.seconds(run.name) or 0.0) >= limit:
            return Stopped(
                f"The step {step.name} was stopped after {limit} s ({job}): that is its part of the budget.",
                where="azure.budget_usd",
                fix="Raise it and type the same command again: a training goes on.",
            )
        messages = (submitted.follower.error(run.name), submitted.follower.build_log(run.name))
        why = " ".join(filter(None, messages)) or None
        if run.status == "Canceled":
            return Stopped(
                f"The job {job} was cancelled at the step {step.name}.",
                why=why,
                fix="Type the same command to go on from there; no part of the job runs any more.",
            )
        less_memory = f" {step.less_memory}" if names_memory(why or "") else ""
        return Stopped(
            f"The step {step.name} failed in Azure ({job}).",
            why=why,
            fix=f"Its log is above and in the studio.{less_memory} Type the same command to go on from there.",
        )

    def _error_message(self, job: str, step: Step) -> str | None:
        """The error message that a step left in place of its output; None if it can't be read, which must not hide that
        the step ended."""
        try:
            return BlobStore(self._at).text(f"{output_of(job, step.name)}/{ERROR}")
        except UserError:
            return None


def spec_text(spec: Spec) -> str:
    """A spec as nodes read it: with the paths at which they lay out the user's files."""
    sources = {key: source.place for key, source in sources_of(spec).items()}
    with tempfile.TemporaryDirectory() as scratch:
        return spec.save(Path(scratch), sources.pop("model", None), sources).read_text("utf-8")


def stays_here(step: Step, spec: Spec) -> bool:
    """Whether a step asks an API whose key is a variable of this machine, so that it has to run here."""
    return any(each.key not in (None, ENTRA) for each in step.asked_apis(spec))
