"""A server's models: one bundle, or a folder of adapters with their base, encoders and linear models."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextvars import Context
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self, TypeVar

from tunewright.core.call import Abandoned, OutOfTime
from tunewright.core.progress import say
from tunewright.inference.bundle import Bundle, load_bundle, read_info
from tunewright.inference.checksums import Verification
from tunewright.inference.predictors import GenerationConfig, Pieces
from tunewright.inference.runtimes.base import ADAPTER_FOLDER, FOLDERS, is_classifier
from tunewright.inference.runtimes.openvino.adapter import load_adapter
from tunewright.inference.runtimes.openvino.model import PagedNextToken
from tunewright.inference.runtimes.openvino.network import ADAPTERS
from tunewright.models.files import loading
from tunewright.project import falls_to_challenger
from tunewright.serving.adapters import BASE, AdapterStore, AdapterVersion
from tunewright.serving.engine import Engine
from tunewright.tasks import Message

_Answer = TypeVar("_Answer")
_MEMORY = 512 * 2**20
"""Bytes of a folder's adapters and other weights, without the base, that stay loaded. The longest unused go first."""
MOST_FAILURES = 10
"""Requests that a challenger may fail to answer before its trial ends."""


class UnknownModel(KeyError):
    """The server has no model of this name."""


class Host(Protocol):
    """A server's models."""

    label: str
    """The name in `/ready` and in the log."""
    precision: str

    @property
    def ended(self) -> bool:
        """Whether the model's process has ended, so that the server must be restarted."""
        ...

    def names(self) -> list[str]: ...

    def engine(self, name: str | None) -> Engine:
        """The engine of a model.

        Args:
            name: None: the only model.

        Raises:
            UnknownModel: there is no model of this name, or there are several and no name.
        """
        ...

    def choose(self, engine: Engine, text: str) -> tuple[Engine, ChallengerShare | None]:
        """The engine that answers a text: the given one, or a challenger's that is on trial in its place."""
        ...


class ChallengerShare:
    """A challenger on trial, with a count of its requests and failures.

    Args:
        share: the share of the requests that it answers.
    """

    def __init__(self, engine: Engine, share: float):
        self.engine, self.share = engine, share
        self.requests = 0
        self.failed = 0
        """Requests that the champion had to answer in its place."""
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        return self.engine.bundle.info.version

    @property
    def over(self) -> bool:
        """Whether it failed so often that the server gives it no more requests."""
        return self.failed >= MOST_FAILURES

    def takes(self, text: str) -> bool:
        """Whether the challenger answers a request; if so, count it."""
        if self.over or not falls_to_challenger(text, self.version, self.share):
            return False
        with self._lock:
            self.requests += 1
        return True

    def fail(self, error: Exception) -> None:
        """Count a request that the champion had to answer instead."""
        with self._lock:
            self.failed += 1
        # The error's message is left out: it may hold some of the request's text.
        ends = "; it gets no more requests" if self.over else ""
        say(f"The challenger {self.version} could not answer ({type(error).__name__}), the champion did{ends}.")


def ask_host(
    host: Host, engine: Engine, text: str, ask: Callable[[Engine], _Answer]
) -> tuple[Engine, _Answer, ChallengerShare | None]:
    """(the engine that answered, its answer, the challenger that could not). The challenger on trial answers its share
    of the requests. Where it fails, the champion answers instead.

    Args:
        engine: the champion.
        ask: gets the answer from an engine.
    """
    chosen, trial = host.choose(engine, text)
    if trial is None:
        return chosen, ask(chosen), None
    try:
        return chosen, ask(chosen), None
    except (Abandoned, OutOfTime):
        raise
    except Exception as error:  # noqa: BLE001 (whatever the challenger's fault is, the champion answers)
        answer = ask(engine)  # if the champion refuses too, the challenger is not to blame
        trial.fail(error)
        return engine, answer, trial


class OneModel:
    """The model of a bundle, and during a canary a challenger's beside it."""

    def __init__(self, engine: Engine):
        self.serve(engine)

    def serve(self, engine: Engine, trial: ChallengerShare | None = None) -> None:
        """Answer with other engines from the next request on. Requests under way end with the engine they began with.

        Args:
            trial: a challenger.
        """
        self._serving = engine, trial
        self.label = engine.bundle.info.name
        self.precision = engine.bundle.info.precision

    @property
    def champion(self) -> Engine:
        return self._serving[0]

    @property
    def trial(self) -> ChallengerShare | None:
        return self._serving[1]

    @property
    def ended(self) -> bool:
        return self.champion.ended

    def names(self) -> list[str]:
        return [self.label]

    def engine(self, name: str | None) -> Engine:
        if name not in (None, self.label):
            raise UnknownModel(name)
        return self.champion

    def choose(self, engine: Engine, text: str) -> tuple[Engine, ChallengerShare | None]:
        champion, trial = self._serving
        if trial and engine is champion and trial.takes(text):
            return trial.engine, trial
        return engine, None


class ManyModels:
    """The models of a folder, each loaded at its first request. The base, if there is one, answers under its own name.

    Args:
        threads: CPU threads; all cores by default.
        verification: the check of each model before it is loaded; set by the environment by default.
    """

    def __init__(self, store: AdapterStore, threads: int | None = None, verification: Verification | None = None):
        self._store, self._threads, self._verification = store, threads, verification
        self._base = BaseEngine.load_for_adapters(store.folder / BASE, threads, verification) if store.base else None
        if store.base:
            self.label, self.precision = store.base.name, store.base.precision
        else:
            self.label = store.folder.resolve().name
            self.precision = " and ".join(sorted({info.precision for info in store.infos().values()}))
        self._lock = threading.Lock()
        self._loaded: OrderedDict[AdapterVersion, Future[tuple[Engine, int]]] = OrderedDict()
        """(engine, bytes that it alone needs) of each version, the longest unused first."""

    @property
    def ended(self) -> bool:
        return self._base is not None and self._base.ended

    def names(self) -> list[str]:
        return [*([self.label] if self._base else []), *self._store.names()]

    def engine(self, name: str | None) -> Engine:
        if name is None and len(known := self.names()) == 1:
            (name,) = known
        if self._base and name == self.label:
            return self._base
        version = self._store.current(name) if name else None
        if version is None:
            raise UnknownModel(name)
        with self._lock:
            future = self._loaded.get(version)
            if mine := future is None:
                future = self._loaded[version] = Future()
            self._loaded.move_to_end(version)
        if mine:
            self._load(version, future)
        return future.result()[0]

    def choose(self, engine: Engine, text: str) -> tuple[Engine, ChallengerShare | None]:  # noqa: ARG002 (the protocol's)
        return engine, None

    def _load(self, version: AdapterVersion, future: Future[tuple[Engine, int]]) -> None:
        """Load a version outside the lock, so that other models answer meanwhile, and outside the request's context:
        others wait for the engine too, so it is loaded though the client that came first has left."""
        try:
            future.set_result(Context().run(self._engine_and_bytes, version))
        except Exception as error:  # noqa: BLE001 (all requests that wait for the engine must get it)
            with self._lock:
                self._loaded.pop(version, None)
            # The version may have been removed meanwhile.
            gone = self._store.current(version.name) != version
            future.set_exception(UnknownModel(version.name) if gone else error)
            return
        with self._lock:
            done = {each: future.result()[1] for each, future in self._loaded.items() if future.done()}
            while sum(done.values()) > _MEMORY and len(done) > 1:
                longest_unused = next(iter(done))
                del done[longest_unused], self._loaded[longest_unused]

    def _engine_and_bytes(self, version: AdapterVersion) -> tuple[Engine, int]:
        """(the engine of a version, the bytes that it alone needs)."""
        if is_classifier(read_info(version.folder).runtime):
            bundle = load_bundle(version.folder, verification=self._verification)
            return Engine.load(bundle, self._threads), bundle.weight_bytes
        assert self._base, "a folder with an adapter has a base"
        base = self._base.bundle
        bundle = load_bundle(version.folder, base.tokenizer, self._verification)
        bundle.verify()
        info = bundle.info.model_copy(update={"context": min(bundle.info.context, base.info.context)})
        adapter = load_adapter(version.folder / ADAPTER_FOLDER)
        return Engine(replace(bundle, info=info), self._base.paged.with_adapter(adapter)), adapter.nbytes


class BaseEngine(Engine):
    """The base model without an adapter: it takes any conversation and gives any answer.

    Args:
        paged: its model, which answers for its adapters too.
    """

    def __init__(self, bundle: Bundle, paged: PagedNextToken):
        super().__init__(bundle, paged)
        self.paged = paged

    @classmethod
    def load_for_adapters(cls, folder: Path, threads: int | None, verification: Verification | None = None) -> Self:
        """The engine of a base in its folder, with inputs for adapters in its graph."""
        bundle = load_bundle(folder, verification=verification)
        bundle.verify()
        weights = folder / FOLDERS[bundle.info.runtime]
        with loading(weights, "The weights"):
            paged = PagedNextToken(weights, context=bundle.info.context, threads=threads, adapters=ADAPTERS)
        return cls(bundle, paged)

    def converse(self, messages: Sequence[Message], generation_config: GenerationConfig) -> Pieces:
        """As `stream`, for a conversation."""
        self._require_letters(*(message.content for message in messages))
        prompt = self.bundle.template.encode_prompt(messages, self.bundle.tokenizer)
        return self._pieces(self._fitting([prompt]), generation_config)
