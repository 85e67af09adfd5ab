"""Following a project's `serving.json`: new bundles are loaded beside those that answer, and then replace them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.inference.bundle import load_bundle
from tunewright.project import SERVING, Traffic
from tunewright.serving.engine import Engine
from tunewright.serving.hosts import ChallengerShare, OneModel
from tunewright.serving.presence import EVERY, Presence, Sign, now

_LOOKS = 1.0
"""Seconds between two looks at the file."""


class BundleWatcher:
    """Loads the bundles that `find` gives, and in a thread follows its changes.

    Args:
        find: gives the champion and the challenger.
        engine: of the first champion; later bundles are verified as this one was.
        runs: the folder of outputs whose `serving.json` is watched; None: only `reload` calls `find` again.
        threads: CPU threads of an engine.
    """

    def __init__(self, find: Callable[[], Traffic], engine: Engine, runs: Path | None, threads: int | None):
        self._find, self._threads = find, threads
        self._verification = engine.bundle.verification
        self._file = runs / SERVING if runs else None
        self._sign = Sign(runs) if runs else None
        self._wake, self._end = threading.Event(), threading.Event()
        self._trouble = self._address = ""
        self._named: str | None = None
        """The folder name of the challenger that `serving.json` names."""
        self._thread: threading.Thread | None = None
        self._seen = self._state()
        self._champion = engine.bundle.folder.resolve()
        self._trial: Path | None = None
        self.models = OneModel(engine)
        self._update(reload=False)

    def start(self, address: str) -> None:
        """Start the thread.

        Args:
            address: the server's, for its sign of life.
        """
        self._address = address
        self._thread = threading.Thread(target=self._watch, name="bundle-watcher", daemon=True)
        self._thread.start()

    def reload(self) -> None:
        """Load the champion again soon, even if it is the same. Signal handlers may call this."""
        self._wake.set()

    def end(self) -> None:
        """Stop the thread, and remove the sign of life."""
        self._end.set()
        self._wake.set()
        if self._thread:
            self._thread.join(_LOOKS)
        if self._sign:
            self._sign.take_away()

    def _watch(self) -> None:
        signed = -EVERY
        while not self._end.is_set():
            woken = self._wake.wait(_LOOKS if self._file else None)
            self._wake.clear()
            state, changed = self._state(), False
            if not self._end.is_set() and (woken or state != self._seen):
                self._seen, changed = state, True
                self._update(reload=woken)
            if self._sign and not self._end.is_set() and (changed or time.monotonic() - signed >= EVERY):
                signed = time.monotonic()
                self._sign.give(self._presence())

    def _state(self) -> tuple[int, int] | None:
        """The file's time and inode, which differ from those of an earlier file."""
        try:
            stat = self._file.stat() if self._file else None
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_ino) if stat else None

    def _update(self, *, reload: bool) -> None:
        """Load the bundles that `find` gives now. One that can't be loaded changes nothing.

        Args:
            reload: load the champion even if it is the one that answers.
        """
        try:
            traffic = self._find()
            folder = traffic.champion.resolve()
            engine = self._engine(folder, reload=reload)
        except Exception as error:  # noqa: BLE001 (whatever is wrong with the new bundle, the old one answers)
            say(f"The new bundle can't be loaded; the old one goes on. {_reason(error)}")
            return
        if engine is not self.models.champion:
            self._champion, self._trial = folder, None
            self.models.serve(engine)
            say(f"{self.models.label} ({self.models.precision}) was reloaded: version {_version(engine)}.")
        self._try(traffic)

    def _try(self, traffic: Traffic) -> None:
        """Put a challenger on trial, or end its trial."""
        folder = traffic.challenger.resolve() if traffic.challenger else None
        self._trouble, self._named = "", folder.name if folder else None
        trial = None
        if folder:
            try:
                trial = self._trial_of(folder, traffic.share)
            except Exception as error:  # noqa: BLE001 (whatever is wrong with it, the champion answers)
                self._trouble = _reason(error)
                say(f"The challenger can't be loaded; the champion answers everything. {self._trouble}")
        self._trial = folder if trial else None
        if trial is not self.models.trial:
            self.models.serve(self.models.champion, trial)
            say(
                f"Version {trial.version} is on trial with {trial.share:.0%} of the requests."
                if trial
                else "The trial is over."
            )

    def _trial_of(self, folder: Path, share: float) -> ChallengerShare:
        running = self.models.trial
        if running and folder == self._trial:
            return running if running.share == share else ChallengerShare(running.engine, share)
        return ChallengerShare(self._load(folder), share)

    def _engine(self, folder: Path, *, reload: bool) -> Engine:
        """The engine of a bundle: a loaded one, unless `reload` forbids it."""
        if folder == self._champion and not reload:
            return self.models.champion
        if folder == self._trial and self.models.trial:
            return self.models.trial.engine
        return self._load(folder)

    def _load(self, folder: Path) -> Engine:
        return Engine.load(load_bundle(folder, verification=self._verification), self._threads)

    def _presence(self) -> Presence:
        trial = self.models.trial
        failed = f"it could not answer {trial.failed} of {trial.requests} requests" if trial and trial.over else ""
        return Presence(
            time=now(),
            address=self._address,
            champion=_version(self.models.champion),
            told=self._named,
            challenger=trial.version if trial and not trial.over else None,
            asked=trial.requests if trial else 0,
            failed=trial.failed if trial else 0,
            trouble=self._trouble or failed,
        )


def _version(engine: Engine) -> str:
    return engine.bundle.info.version


def _reason(error: Exception) -> str:
    return error.paragraph() if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
