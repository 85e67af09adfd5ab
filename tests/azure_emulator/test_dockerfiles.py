"""The emulator runs what the images' real Dockerfile says."""

from __future__ import annotations

import sys

import pytest

from tunewright.azure_emulator.dockerfiles import container_of
from tunewright.deploy.images import infra_folder
from tunewright.inference.runtimes.base import ENGINES

TEXT = (infra_folder() / "docker" / "Dockerfile").read_text("utf-8")


@pytest.mark.parametrize("engine", sorted(set(ENGINES.values())))
def test_every_stage_serves_its_engine_on_the_port_that_probes_ask(engine: str) -> None:
    for stage in (engine, f"{engine}-bundle"):
        found = container_of(TEXT, stage)
        assert found.ports == {8080}
        assert found.variables["TUNEWRIGHT_BUNDLE"] == "/bundle"
        assert found.here(1234, ("--threads", "1")) == [
            sys.executable,
            "-m",
            "tunewright",
            "serve",
            "--engine",
            engine,
            "--host",
            "127.0.0.1",
            "--threads",
            "1",
            "--port",
            "1234",
        ]


def test_the_python_that_has_vllm_is_the_one_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = container_of(TEXT, "vllm")
    assert found.environment["TUNEWRIGHT_VLLM"] == "/usr/bin/python3"
    monkeypatch.setenv("TUNEWRIGHT_VLLM", "/here/bin/python")
    assert found.variables["TUNEWRIGHT_VLLM"] == "/here/bin/python"
    assert "PATH" not in found.variables and "PIP_NO_CACHE_DIR" not in found.variables


def test_a_stage_takes_over_what_it_is_built_on_and_the_last_one_counts() -> None:
    text = (
        'FROM x AS a\nENV K="one two" L=3 \\\n    M=4\nCMD ["c"]\nFROM a AS b\nENTRYPOINT ["e"]\nFROM a\nEXPOSE 1 2\n'
    )
    assert container_of(text, "a").environment == {"K": "one two", "L": "3", "M": "4"}
    assert container_of(text, "b").command == (), "an entry point of one's own drops the command that was inherited"
    assert container_of(text).command == ("c",) and container_of(text).ports == {1, 2}
    with pytest.raises(KeyError):
        container_of(text, "none")
