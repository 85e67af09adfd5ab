"""How many workers there are and what each gets, here and on a cluster (a stand-in for Ray's list of machines)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tunewright.core import workers
from tunewright.core.workers import CLUSTER, Workers, workers_of


@pytest.mark.parametrize(
    ("cores", "most", "expected"),
    [
        (1, 2, Workers(1, 1)),
        (2, 2, Workers(1, 2)),
        (8, 2, Workers(4, 2)),
        (7, 2, Workers(7, 1)),
        (9, 4, Workers(3, 3)),
        (16, 1, Workers(16, 1)),
        (16, 1 << 60, Workers(1, 16)),
    ],
)
def test_no_core_is_left_over(cores: int, most: int, expected: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CLUSTER, raising=False)
    monkeypatch.setattr(workers, "cores", lambda: cores)
    assert workers_of(most) == expected


@pytest.mark.parametrize(
    ("machines", "expected"),
    [
        ([4.0, 16.0], Workers(10, 2)),
        ([0.0, 2.0], Workers(1, 2)),
        ([3.0, 8.0], Workers(11, 1)),
        ([0.0], Workers(1, 1)),
        ([], Workers(1, 1)),
    ],
)
def test_on_a_cluster_the_smallest_machine_decides(
    machines: list[float], expected: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head without cores runs no call."""
    nodes = [{"Alive": True, "Resources": {"CPU": count} if count else {}} for count in machines]
    nodes.append({"Alive": False, "Resources": {"CPU": 1.0}})
    monkeypatch.setenv(CLUSTER, "local")
    monkeypatch.setattr(workers, "_ray", lambda: SimpleNamespace(nodes=lambda: nodes))
    assert workers_of(2) == expected
