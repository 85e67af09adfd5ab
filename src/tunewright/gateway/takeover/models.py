"""Asking own models: bundles in this process and servers of bundles."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import aiohttp

from tunewright.config.tool_list import TEXT
from tunewright.core.call import CALL, Call
from tunewright.core.errors import UserError, did_you_mean
from tunewright.gateway.config import JobSpec, ModelSpec
from tunewright.gateway.jobs.signature import JobSignature
from tunewright.inference.bundle import load_bundle
from tunewright.inference.checksums import Verification
from tunewright.project import Project, Traffic
from tunewright.serving.adapters import AdapterStore
from tunewright.serving.body import whole_letters
from tunewright.serving.conversations import UnfitMessages, one_input
from tunewright.serving.engine import Engine, TooLong
from tunewright.serving.hosts import Host, ManyModels, UnknownModel, ask_host
from tunewright.serving.watcher import BundleWatcher
from tunewright.tasks.input_form import InputForm

_ROUTES = {"label": "classify", "record": "extract", "text": "generate", "call": "call"}
_AT_ONCE = 4
"""Requests that own models in this process answer at a time, for clients that wait."""
_CANT_TAKE = (400, 413)
"""Statuses with which a server says that the fault is the request's."""
_NICENESS = 10
"""How far the threads for comparisons stand back behind those that clients wait for."""


@dataclass(frozen=True)
class OwnAnswer:
    """What an own model answers."""

    text: str
    """A label, a record's JSON, a call's or a text's JSON, or a text."""
    confidence: float | None
    escalate: bool | None
    """Whether its confidence is below the bundle's threshold; None: there is no threshold."""
    in_scope: bool | None
    model: str | None
    """The bundle's name; None: a server's, which keeps a request log of its own."""
    version: str
    prompt_tokens: int
    answer_tokens: int
    is_cut: bool = False
    seconds: float = 0.0

    @property
    def is_sure(self) -> bool:
        """Whether its confidence reaches the bundle's threshold."""
        return self.escalate is False and self.in_scope is not False


class OwnModelFailed(Exception):
    """An own model gave no answer. The message holds no text of the request."""


class CantTake(OwnModelFailed):
    """The request is none for own models: it is too long for them, for example. That says nothing against them."""


class OwnModel(Protocol):
    """A model that answers a job's input."""

    version: str
    """Of the bundle that answered last."""

    @property
    def has_threshold(self) -> bool:
        """Whether it can tell when it is sure."""
        ...

    async def answer(self, text: str, seconds: float, *, in_background: bool) -> OwnAnswer:
        """Its answer.

        Args:
            seconds: after which nobody needs the answer any more.
            in_background: whether nobody waits for it.

        Raises:
            OwnModelFailed: it gave none; `CantTake`: because of the request.
        """
        ...

    async def close(self) -> None: ...


@dataclass
class _Loaded:
    """The model or models of a folder in this process."""

    host: Host
    watcher: BundleWatcher | None
    """None: the host looks at its folder itself."""
    loaded: int
    """The reading of the settings that first named it."""
    named: int
    """The last one that did."""
    users: WeakSet[InProcess] = field(default_factory=WeakSet)
    """Weak, because settings that turn out to be wrong never close theirs."""

    def end(self) -> None:
        if self.watcher:
            self.watcher.end()


class Hosts:
    """The bundles in this process, each loaded once, however many jobs use it, and until none does. Thread-safe."""

    def __init__(self) -> None:
        self._hosts: dict[Path, _Loaded] = {}
        self._reading = 0
        self._lock = threading.Lock()
        """Held while a bundle is loaded too, so that none is dropped that is just being named again."""
        self.live = ThreadPoolExecutor(_AT_ONCE, "own-model")
        self.background = ThreadPoolExecutor(1, "own-model-background", initializer=_stand_back)

    def begin_reading(self) -> None:
        """Settings are read, and will name bundles."""
        self._reading += 1

    def host(self, folder: Path, user: InProcess) -> Host:
        """The model or models of a bundle, a folder of adapters or a project, whose changes are followed.

        Args:
            user: gives it back.

        Raises:
            UserError: it is none of these, or can't be loaded.
        """
        key = folder.resolve()
        with self._lock:
            if key not in self._hosts:
                self._hosts[key] = _Loaded(*self._load(folder), self._reading, self._reading)
            found = self._hosts[key]
            found.named = self._reading
            found.users.add(user)
        return found.host

    def reload(self) -> None:
        """Load soon what the last reading named and an earlier one had loaded: there may be newer bundles."""
        with self._lock:
            for each in self._hosts.values():
                if each.watcher and each.loaded < each.named == self._reading:
                    each.watcher.reload()

    def give_back(self, user: InProcess) -> None:
        """End what nobody uses after this user."""
        with self._lock:
            for each in self._hosts.values():
                each.users.discard(user)
            unused = [self._hosts.pop(key) for key, each in [*self._hosts.items()] if not each.users]
        for each in unused:
            each.end()

    def close(self) -> None:
        for each in self._hosts.values():
            each.end()
        self.live.shutdown(wait=False, cancel_futures=True)
        self.background.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _load(folder: Path) -> tuple[Host, BundleWatcher | None]:
        if AdapterStore.is_one(folder):
            return ManyModels(AdapterStore(folder)), None
        project = Project(folder) if Project.is_one(folder) else None

        def find() -> Traffic:
            return project.traffic() if project else Traffic(folder)

        bundle = load_bundle(find().champion, verification=Verification.by_environment())
        watcher = BundleWatcher(find, Engine.load(bundle), project.runs if project else None, None)
        watcher.start("gateway")
        return watcher.models, watcher


class InProcess:
    """A bundle in this process.

    Args:
        name: in a folder of adapters.

    Raises:
        UserError: there is no such bundle, or it does not give the job's kind of answers.
    """

    def __init__(self, hosts: Hosts, folder: Path, name: str | None, signature: JobSignature):
        self._hosts, self._name = hosts, name
        self._host = hosts.host(folder, self)
        try:
            engine = self._host.engine(name)
        except UnknownModel:
            known = self._host.names()
            what = f"There is no model '{name}' here." if name else "There are several models here."
            fix = did_you_mean(name or "", known, f"Give one of them as `name`: {', '.join(known)}.")
            raise UserError(what, where=folder, fix=fix) from None
        if engine.route != _ROUTES[signature.answer]:
            raise UserError(
                f"This model's job is to {engine.route}, the job's answers are of the kind '{signature.answer}'.",
                where=folder,
                fix="Name the bundle that was trained for this job.",
            )
        # Kept, because of a folder of adapters the engine may first have to be loaded.
        self.version = engine.bundle.info.version

    @property
    def has_threshold(self) -> bool:
        return self._host.engine(self._name).bundle.info.threshold is not None

    async def answer(self, text: str, seconds: float, *, in_background: bool) -> OwnAnswer:
        call = Call(seconds)
        context = copy_context()
        context.run(CALL.set, call)
        pool = self._hosts.background if in_background else self._hosts.live
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, context.run, self._answer, text)
        except asyncio.CancelledError:
            call.gone.set()
            raise
        except (TooLong, UnfitMessages) as error:
            raise CantTake(type(error).__name__) from None
        except Exception as error:  # noqa: BLE001 (whatever it is, the API answers instead)
            raise OwnModelFailed(type(error).__name__) from None

    async def close(self) -> None:
        await asyncio.to_thread(self._hosts.give_back, self)

    def _answer(self, text: str) -> OwnAnswer:
        champion = self._host.engine(self._name)
        self.version = champion.bundle.info.version
        asked = one_input(text, InputForm.of(champion.bundle.info.task))
        engine, answer, _ = ask_host(self._host, champion, asked, lambda engine: engine.answer(asked))
        flags = engine.bundle.flags(answer.confidence)
        return OwnAnswer(
            answer.text,
            answer.confidence,
            flags["escalate"],
            flags["in_scope"],
            engine.bundle.info.name,
            engine.bundle.info.version,
            answer.prompt_tokens,
            answer.answer_tokens,
            answer.cut,
        )


class AtServer:
    """A model at a `tunewright serve`.

    Raises:
        UserError: the variable of its key is not set.
    """

    def __init__(self, spec: ModelSpec, signature: JobSignature):
        self._url = f"{str(spec.url).removesuffix('/v1')}/v1/{_ROUTES[signature.answer]}"
        self._name, self._answer_key = spec.name, signature.answer
        self._key = os.environ.get(spec.key) if spec.key else None
        if spec.key and not self._key:
            raise UserError(
                f"The key of the model at {spec.url} is not set.",
                where=f"environment variable {spec.key}",
                fix=f"Type: export {spec.key}=…",
            )
        self.version = f"{spec.url}{f'/{spec.name}' if spec.name else ''}"
        self.has_threshold = True  # an answer without one says so, and counts as not sure
        self._session: aiohttp.ClientSession | None = None

    async def answer(self, text: str, seconds: float, *, in_background: bool) -> OwnAnswer:  # noqa: ARG002 (the protocol's)
        if self._session is None:
            headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
            self._session = aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar())
        body = {"text": text, "model": self._name} if self._name else {"text": text}
        try:
            timeout = aiohttp.ClientTimeout(total=seconds)
            async with self._session.post(self._url, json=body, timeout=timeout) as response:
                if response.status in _CANT_TAKE:
                    raise CantTake(f"status {response.status}")
                if response.status != 200:
                    raise OwnModelFailed(f"status {response.status}")
                return self._read(await response.json())
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            raise OwnModelFailed(type(error).__name__) from None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    def _read(self, reply: Mapping[str, Any]) -> OwnAnswer:
        value = reply[self._answer_key] if "labels" not in reply else reply["labels"]
        if self._answer_key == "call" and value is None:
            value = {TEXT: reply[TEXT]}
        usage = reply["usage"]
        return OwnAnswer(
            value if isinstance(value, str) else _json(value),
            reply.get("confidence"),
            reply.get("escalate"),
            reply.get("in_scope"),
            None,
            self.version,
            usage["prompt_tokens"],
            usage["completion_tokens"],
            reply.get("finish_reason") == "length",
        )


class ModelChain:
    """Own models that are asked one after the other, until one is sure."""

    def __init__(self, models: Sequence[OwnModel]):
        self._models = models

    @property
    def version(self) -> str:
        return " > ".join(model.version for model in self._models)

    @property
    def has_threshold(self) -> bool:
        return all(model.has_threshold for model in self._models)

    async def answer(self, text: str, seconds: float, *, in_background: bool) -> OwnAnswer:
        """The answer of the first model that is sure, or else of the last one that gave one.

        Raises:
            OwnModelFailed: none gave one; `CantTake`: none could take the request, and none failed otherwise.
        """
        _require_whole_letters(text)
        begun = time.perf_counter()
        answer: OwnAnswer | None = None
        failure: OwnModelFailed | None = None
        for model in self._models:
            try:
                left = seconds - (time.perf_counter() - begun)
                answer = await model.answer(text, left, in_background=in_background)
            except OwnModelFailed as error:
                if failure is None or not isinstance(error, CantTake):
                    failure = error
            else:
                if answer.is_sure:
                    break
        if answer is None:
            raise failure or OwnModelFailed("no model")
        return replace(answer, seconds=time.perf_counter() - begun)

    async def close(self) -> None:
        for model in self._models:
            await model.close()


def own_models(job: JobSpec, signature: JobSignature, hosts: Hosts) -> ModelChain:
    """The own models of a job, loaded.

    Raises:
        UserError: a bundle can't be loaded, a key is not set, or a model's task is another one.
    """
    specs = job.models or [ModelSpec(bundle=job.project)]
    return ModelChain(
        [
            InProcess(hosts, each.bundle, each.name, signature) if each.bundle else AtServer(each, signature)
            for each in specs
        ]
    )


def _require_whole_letters(text: str) -> None:
    """Refuse half a letter (a lone surrogate), which no model can read.

    Raises:
        CantTake: there is one in the text.
    """
    try:
        whole_letters(text)
    except ValueError as error:
        raise CantTake(str(error)) from None


def _stand_back() -> None:
    """Let the threads that clients wait for go first. Linux has a niceness for each thread."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
