"""Which models a server has: one bundle's, or those of a folder: a base with its adapters, encoders, linear models."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Self

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

_MEMORY = 512 * 2**20
"""Bytes of a folder's adapters and own weights that are kept loaded; the longest unused go first."""
MOST_FAILURES = 10
"""Requests that a challenger may fail to answer."""


class UnknownModel(KeyError):
    """No model of this name is served."""


class Host(Protocol):
    """A server's models."""

    label: str
    """What `/ready` and the log call it."""
    precision: str

    @property
    def ended(self) -> bool:
        """Whether its model has gone, and the server is to be started again."""
        ...

    def names(self) -> list[str]: ...

    def engine(self, name: str | None) -> Engine:
        """The engine of a model; None: of the only one.

        Raises:
            UnknownModel: there is none of this name, or several and no name.
        """
        ...

    def taking(self, engine: Engine, text: str) -> tuple[Engine, ChallengerShare | None]:
        """Who answers a text to a model's engine: that one, or in its place one that is on trial."""
        ...


class ChallengerShare:
    """A challenger that answers a share of the requests, and how it does.

    Args:
        share: of the requests.
    """

    def __init__(self, engine: Engine, share: float):
        self.engine, self.share = engine, share
        self.asked = 0
        self.failed = 0
        """Requests that the champion had to answer in its place."""
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        return self.engine.bundle.info.version

    @property
    def over(self) -> bool:
        """Whether it failed so often that it is asked no more, whoever watches."""
        return self.failed >= MOST_FAILURES

    def takes(self, text: str) -> bool:
        """Whether a request is its own to answer."""
        if self.over or not falls_to_challenger(text, self.version, self.share):
            return False
        with self._lock:
            self.asked += 1
        return True

    def fail(self, error: Exception) -> None:
        """Note that it could not answer, and the champion did."""
        with self._lock:
            self.failed += 1
        # No text of the error: it may hold one of the request.
        ends = "; it is asked no more" if self.over else ""
        say(f"The challenger {self.version} could not answer ({type(error).__name__}), the champion did{ends}.")


class OneModel:
    """A bundle's, and during a canary another's beside it."""

    def __init__(self, engine: Engine):
        self.serve(engine)

    def serve(self, engine: Engine, trial: ChallengerShare | None = None) -> None:
        """Answer with other engines from the next request on; what is under way ends with the one it began with.

        Args:
            trial: of another one.
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

    def taking(self, engine: Engine, text: str) -> tuple[Engine, ChallengerShare | None]:
        champion, trial = self._serving
        if trial and engine is champion and trial.takes(text):
            return trial.engine, trial
        return engine, None


class ManyModels:
    """Those of a folder, loaded when they are asked for; a base, where it has one, is asked as it is.

    Args:
        threads: CPU threads; all cores by default.
        verification: what is asked of each model before it is loaded; by default what the environment says.
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
        self._loaded: OrderedDict[tuple[str, int], Future[tuple[Engine, int]]] = OrderedDict()
        """Engines by name and version with the bytes of what each alone needs, the longest unused first."""

    @property
    def ended(self) -> bool:
        return self._base is not None and self._base.ended

    def names(self) -> list[str]:
        return [*([self.label] if self._base else []), *self._store.names()]

    def engine(self, name: str | None) -> Engine:
        if self._base and name == self.label:
            return self._base
        if name is None and len(known := self.names()) == 1:
            (name,) = known
        version = self._store.current(name) if name else None
        if version is None:
            raise UnknownModel(name)
        key = (version.name, version.number)
        with self._lock:
            found = self._loaded.get(key)
            if mine := found is None:
                found = self._loaded[key] = Future()
            self._loaded.move_to_end(key)
        if mine:
            self._load(key, version, found)
        return found.result()[0]

    def taking(self, engine: Engine, text: str) -> tuple[Engine, ChallengerShare | None]:  # noqa: ARG002 (the protocol's)
        return engine, None

    def _load(self, key: tuple[str, int], version: AdapterVersion, found: Future[tuple[Engine, int]]) -> None:
        """Load a version outside the lock: others are answered meanwhile."""
        try:
            found.set_result(self._made(version))
        except Exception as error:  # noqa: BLE001 (all who wait for it must hear of it)
            with self._lock:
                self._loaded.pop(key, None)
            # It may have been taken away meanwhile.
            gone = self._store.current(version.name) != version
            found.set_exception(UnknownModel(version.name) if gone else error)
            return
        with self._lock:
            done = {each: future.result()[1] for each, future in self._loaded.items() if future.done()}
            while sum(done.values()) > _MEMORY and len(done) > 1:
                longest_unused = next(iter(done))
                del done[longest_unused], self._loaded[longest_unused]

    def _made(self, version: AdapterVersion) -> tuple[Engine, int]:
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
    """The base as it came: any conversation, any answer. `paged` is its model, which answers for its adapters too."""

    def __init__(self, bundle: Bundle, paged: PagedNextToken):
        super().__init__(bundle, paged)
        self.paged = paged

    @classmethod
    def load_for_adapters(cls, folder: Path, threads: int | None, verification: Verification | None = None) -> Self:
        """The engine of a base in its folder, with room for adapters in its graph."""
        bundle = load_bundle(folder, verification=verification)
        bundle.verify()
        weights = folder / FOLDERS[bundle.info.runtime]
        with loading(weights, "The weights"):
            paged = PagedNextToken(weights, context=bundle.info.context, threads=threads, adapters=ADAPTERS)
        return cls(bundle, paged)

    def converse(self, messages: Sequence[Message], terms: GenerationConfig) -> Pieces:
        """As `stream`, of a conversation."""
        self._require_room(*(message.content for message in messages))
        prompt = self.bundle.template.encode_prompt(messages, self.bundle.tokenizer)
        return self._pieces(self._fitting([prompt]), terms)
