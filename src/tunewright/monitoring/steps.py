"""The step `drift`: what servers captured against what a bundle was judged on, wherever that is run."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import Output, write_json
from tunewright.core.progress import say
from tunewright.monitoring.alarms import sentence
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.watch import look


def run_drift(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Read the captures that lie in the spec's folder and compare them with the bundle's reference.

    Writes `drift.json`. An alarm is written down and told, not raised: what runs beside it is to go on. The webhook is
    left alone, because its address is a secret of the machine that watches.
    """
    alone = spec.model_copy(update={"monitor": spec.monitor.model_copy(update={"webhook": None})})
    with tempfile.TemporaryDirectory() as scratch:
        store = open_at(f"sqlite:///{scratch}/monitor.db")
        collected = collect(alone, store)
        found = look(alone, store, inputs["bundle"])
        store.close()
    for window in found.windows:
        say(f"  the last {window.days} days: {window.waits or f'{window.rows:,} requests compared'}")
    for alarm in found.alarms:
        say(f"  ✗ drift: {sentence(alarm)}")
    # What was asked stays in the captures: an output may be looked at by more people.
    write_json(output.path / "drift.json", {key: value for key, value in found.data.items() if key != "examples"})
    output.result = {"captures": collected.captures, "alarms": len(found.alarms)}
