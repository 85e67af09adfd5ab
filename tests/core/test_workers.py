"""How many cores a worker gets, here and on a cluster (a stand-in for Ray's list of machines)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tunewright.core import workers
from tunewright.core.workers import CLUSTER, cores_of_one


@pytest.mark.parametrize(("cores", "expected"), [(1, 1), (2, 2), (8, 8), (16, 1)])
def test_a_worker_has_all_of_a_small_machine(cores: int, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLUSTER, raising=False)
    monkeypatch.setattr(workers, "cores", lambda: cores)
    assert cores_of_one(8) == expected


@pytest.mark.parametrize(
    ("machines", "expected"), [([4.0, 16.0], 4), ([0.0, 2.0], 2), ([16.0, 32.0], 1), ([0.0], 1), ([], 1)]
)
def test_on_a_cluster_the_smallest_machine_counts(
    machines: list[float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray never starts a call that needs more cores than any machine has. A head without cores runs no call."""
    nodes = [{"Alive": True, "Resources": {"CPU": count} if count else {}} for count in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 1.0}})
    monkeypatch.setenv(CLUSTER, "local")
    monkeypatch.setattr(workers, "_ray", lambda: SimpleNamespace(nodes=lambda: nodes))
    assert cores_of_one(8) == expected
