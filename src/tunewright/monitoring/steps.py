"""The step `drift`: compare captures with the data that a bundle was evaluated on, on any backend."""

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
    """Compare the captures in the spec's folder with the bundle's reference.

    It writes `drift.json`. An alarm is written and printed, but does not fail the step, because the jobs beside it
    should continue. The webhook is not called, because its address is a secret of the monitoring machine.
    """
    alone = spec.model_copy(update={"monitor": spec.monitor.model_copy(update={"webhook": None})})
    with tempfile.TemporaryDirectory() as scratch:
        store = open_at(f"sqlite:///{scratch}/monitor.db")
        collected = collect(alone, store)
        result = look(alone, store, inputs["bundle"])
        store.close()
    for window in result.windows:
        say(f"  the last {window.days} days: {window.waits or f'{window.rows:,} requests compared'}")
    for alarm in result.alarms:
        say(f"  ✗ drift: {sentence(alarm)}")
    # Requests stay in the captures, because more people may read an output.
    write_json(output.path / "drift.json", {key: value for key, value in result.data.items() if key != "examples"})
    output.result = {"captures": collected.captures, "alarms": len(result.alarms)}
