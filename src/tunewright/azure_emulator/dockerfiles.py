"""What a Dockerfile says about a container: the command that it runs, its variables and the ports it listens on.

Nothing is built here, so a container is this package on this machine, begun by the command of its real image.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_FROM = re.compile(r"^FROM (?:--\S+ )*(\S+)(?: AS (\S+))?$", re.I)
_OF_THE_MACHINE = re.compile(r"PATH|PIP_\w+")
"""Variables that only tell where an image's own files are, or how it is built."""
_PYTHONS = ("python", "python3")
_VLLM = "TUNEWRIGHT_VLLM"
"""The Python that has vLLM: a path in the image, which on this machine is another one."""


@dataclass(frozen=True)
class Container:
    """A stage of a Dockerfile, with what it takes over from the stages it is built on."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """What is added to the entry point where nothing else is."""
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: frozenset[int] = frozenset()

    def here(self, port: int, arguments: tuple[str, ...] = ()) -> list[str]:
        """The command line on this machine.

        Args:
            port: to listen on, in place of the image's.
            arguments: in place of the image's `CMD`.
        """
        words = [*self.entrypoint, *(arguments or self.command)]
        words[0] = sys.executable if words[0] in _PYTHONS else words[0]
        listening = ["127.0.0.1" if word == "0.0.0.0" else word for word in words]
        return [*listening, "--port", str(port)]

    @property
    def variables(self) -> dict[str, str]:
        """Those of the image that mean something on this machine."""
        kept = {name: value for name, value in self.environment.items() if not _OF_THE_MACHINE.fullmatch(name)}
        if _VLLM in kept:
            del kept[_VLLM]
            kept |= {_VLLM: os.environ[_VLLM]} if _VLLM in os.environ else {}
        return kept


def base_of(dockerfile: str, stage: str) -> str:
    """The image that a stage is built on in the end, through the stages it is built on.

    Raises:
        KeyError: there is no such stage.
    """
    bases = {found[2]: found[1] for found in map(_FROM.match, dockerfile.splitlines()) if found and found[2]}
    image = bases[stage]
    while image in bases:
        image = bases[image]
    return image


def container_of(dockerfile: str, stage: str | None = None) -> Container:
    """What a stage says, by default the last one.

    Raises:
        KeyError: there is no such stage.
    """
    stages: dict[str, Container] = {}
    name, now = "", Container()
    for line in re.sub(r"\\\n\s*", "", dockerfile).splitlines():
        word, _, rest = line.strip().partition(" ")
        if found := _FROM.match(line.strip()):
            name, now = found[2] or "", stages.get(found[1], Container())
        elif word == "ENV":
            pairs = (pair.partition("=") for pair in shlex.split(rest))
            now = replace(now, environment={**now.environment, **{key: value for key, _, value in pairs}})
        elif word == "EXPOSE":
            now = replace(now, ports=now.ports | {int(port) for port in rest.split()})
        elif word == "ENTRYPOINT":
            now = replace(now, entrypoint=tuple(json.loads(rest)), command=())
        elif word == "CMD":
            now = replace(now, command=tuple(json.loads(rest)))
        stages[name] = now
    return now if stage is None else stages[stage]
