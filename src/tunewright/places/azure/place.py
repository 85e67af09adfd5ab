"""Azure as a place: steps that are due go up as one job, and what each makes comes down to where it belongs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.artifacts import partial_of, read_manifest, sha256_json
from tunewright.errors import UserError
from tunewright.pipeline import Place, Step, due
from tunewright.places.azure import assets, machines
from tunewright.places.azure.connection import Connection, azure_errors
from tunewright.places.azure.follow import OVER, Follower
from tunewright.places.azure.jobs import Work, job_of
from tunewright.places.azure.node import ERROR
from tunewright.places.azure.sources import needed, sources_of
from tunewright.places.azure.store import DATASTORE, Store
from tunewright.progress import say
from tunewright.spec import Spec

TAG = "tunewright"
"""The tag that everything carries which Tunewright makes in Azure; its value is the spec's name."""
_TRIES = 50


@dataclass(frozen=True)
class Submitted:
    work: Work
    follower: Follower


class AzurePlace:
    """Runs steps in the workspace that a spec means.

    Args:
        local: where steps run that ask an API with a key, which does not leave this machine.
        to: the last step that is wanted.
        force: whether what was done in Azure before is done again.
        ready: is called once, before anything is made there; it raises where something is in the way.
    """

    def __init__(self, spec: Spec, at: Connection, local: Place, *, to: str, force: bool, ready: Callable[[], None]):
        self._spec, self._at, self._local, self._to, self._force = spec, at, local, to, force
        self._ready: Callable[[], None] | None = ready
        self._submitted: dict[str, Submitted] = {}
        self._tags = {TAG: spec.name}

    def __call__(self, step: Step, done: Mapping[str, Path], target: Path) -> None:
        """Bring one step's output to `target`.

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
        run = submitted.follower.step(step.name)
        if run.status != "Completed":
            raise self._failed(step, submitted, run)
        self._bring(step, submitted.work, target)

    @property
    def spent(self) -> float:
        """USD of everything that was followed."""
        followers = {id(each.follower): each.follower for each in self._submitted.values()}
        return sum(each.spent for each in followers.values())

    def _submit(self, step: Step, done: Mapping[str, Path], target: Path) -> None:
        """Submit a step with all later ones that will be due then, or find the job that was submitted before."""
        chain = self._chain(step, done, target.parent)
        base = self._base(chain, target)
        name, known = self._try(base)
        if known is None and self._ready:
            self._ready()
            self._ready = None
        work = self._work(base, name, chain, done)
        if known is None:
            made = job_of(work, self._spec)
            with azure_errors(f"the job {name}"):
                made = self._at.ml.jobs.create_or_update(made)
            say(f"  azure: job {name}: {', '.join(each.name for each in chain)}")
            if made.studio_url:
                say(f"  azure: {made.studio_url}")
        else:
            say(f"  azure: job {name} was submitted before and is {known.status.lower()}")
        rates = {each.name: self._rate(each) for each in chain}
        follower = Follower(self._at, name, rates, self._spec.azure.budget_usd)
        self._submitted |= {each.name: Submitted(work, follower) for each in chain}

    def _chain(self, step: Step, done: Mapping[str, Path], runs: Path) -> list[Step]:
        """The step and those behind it as far as they can go up together."""
        chain = [step]
        for later in due(self._spec, step, self._to, done, runs):
            if stays_here(later, self._spec):
                break
            chain.append(later)
        return chain

    def _base(self, chain: Sequence[Step], target: Path) -> str:
        """The name of the work: what is to be done, on what, by which code and for which answers."""
        what = [
            target.name,
            [step.name for step in chain],
            spec_text(self._spec),
            self._spec.azure.model_dump(mode="json"),
        ]
        steps = chain[0].name if len(chain) == 1 else f"{chain[0].name}-{chain[-1].name}"
        return f"tw-{self._spec.name[:30]}-{steps}-{sha256_json(what)[:12]}"

    def _try(self, base: str) -> tuple[str, Any]:
        """(the name of the try that runs or succeeded, and it; or a name that is free, and None)."""
        from azure.core.exceptions import ResourceNotFoundError

        for number in range(1, _TRIES):
            name = base if number == 1 else f"{base}-{number}"
            with azure_errors(f"the job {name}"):
                try:
                    known = self._at.ml.jobs.get(name)
                except ResourceNotFoundError:
                    return name, None
            if known.status not in OVER or (known.status == "Completed" and not self._force):
                return name, known
        raise UserError(
            f"The job {base} was tried {_TRIES} times.", fix="See in the studio why, then change something."
        )

    def _work(self, base: str, name: str, chain: Sequence[Step], done: Mapping[str, Path]) -> Work:
        """Everything that must be there before the job can run."""
        made_there = {step.name for step in chain}
        given = {
            each: self._output_asset(each, done[each])
            for step in chain for each in step.inputs_of(self._spec) if each not in made_there
        }  # fmt: skip
        return Work(
            base=base,
            name=name,
            steps=chain,
            given=given,
            sources=self._sources(chain),
            clusters={step.name: machines.cluster(self._at, step, self._spec, self._tags) for step in chain},
            limits=machines.limits(list(chain), self._spec),
            code=assets.code_asset(self._at, f"{TAG}-{self._spec.name}-code", spec_text(self._spec), self._tags),
            environment=assets.environment(self._at, self._tags),
            tags=self._tags,
        )

    def _sources(self, chain: Sequence[Step]) -> dict[str, list[tuple[Any, str]]]:
        """The user's files that the steps read, as assets."""
        sources = sources_of(self._spec)
        wanted = {step.name: needed(step, sources) for step in chain}
        addresses = {}
        for key in dict.fromkeys(key for keys in wanted.values() for key in keys):
            source = sources[key]
            with tempfile.TemporaryDirectory() as scratch:
                name = f"{TAG}-{self._spec.name}-{source.name}"
                folder = source.laid_out(Path(scratch) / source.name)
                addresses[key] = assets.data_asset(self._at, name, source.sha256[: assets.DIGITS], folder, self._tags)
        return {step: [(sources[key], addresses[key]) for key in keys] for step, keys in wanted.items()}

    def _output_asset(self, step: str, folder: Path) -> str:
        manifest = read_manifest(folder)
        assert manifest
        name = f"{TAG}-{self._spec.name}-{step}"
        return assets.data_asset(self._at, name, manifest.content[: assets.DIGITS], folder, self._tags)

    def _rate(self, step: Step) -> float:
        """USD an hour of a step's machines."""
        price = machines.price_of(machines.size_of(step, self._spec), self._spec)
        return price.usd_per_hour * machines.nodes_of(step, self._spec)

    def _bring(self, step: Step, work: Work, target: Path) -> None:
        """Download a step's output, and keep it in Azure under its hash, so that it never has to go up again."""
        partial = partial_of(target)
        prefix = f"{work.output(step.name)}"
        Store(self._at).download(prefix, partial)
        manifest = read_manifest(partial)
        if manifest is None:
            raise UserError(f"The output of {step.name} in Azure is not whole.", where=f"{DATASTORE}{prefix}",
                            fix="Type the same command with --force.")  # fmt: skip
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
        assets.kept_output(self._at, f"{TAG}-{self._spec.name}-{step.name}", manifest.content, f"{DATASTORE}{prefix}",
                           self._tags)  # fmt: skip

    def _failed(self, step: Step, submitted: Submitted, run: Any) -> UserError:
        """What to tell of a step that did not complete."""
        job = submitted.work.name
        said = Store(self._at).text(f"{submitted.work.output(step.name)}/{ERROR}")
        if said:
            return UserError(said)
        if run.status == "Canceled":
            return UserError(
                f"The job {job} was cancelled at the step {step.name}.",
                fix="Type the same command to go on from there; nothing of it runs any more.",
            )
        why = submitted.follower.error(run.name)
        return UserError(
            f"The step {step.name} failed in Azure ({job}).", why=why,
            fix="Its log is above and in the studio. Type the same command to go on from there.",
        )  # fmt: skip


def spec_text(spec: Spec) -> str:
    """A spec as nodes read it: what it names is found where they lay it out."""
    sources = {key: source.place for key, source in sources_of(spec).items()}
    with tempfile.TemporaryDirectory() as scratch:
        return spec.save(Path(scratch), sources.pop("model", None), sources).read_text("utf-8")


def stays_here(step: Step, spec: Spec) -> bool:
    """Whether a step asks an API whose key is a variable of this machine."""
    if step.name == "baseline":
        return bool(spec.api.url) and spec.api.key not in (None, "entra")
    return step.name == "judge" and spec.judge is not None and spec.judge.key not in (None, "entra")
