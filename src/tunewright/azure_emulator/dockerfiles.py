"""Reads from a Dockerfile how its container runs: the command, the variables and the ports.

The emulator builds nothing: a container is this package on this machine, started by the command of its real image.
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
"""Variables that only say where an image's own files are, or how it is built."""
_PYTHONS = ("python", "python3")
_VLLM = "TUNEWRIGHT_VLLM"
"""The variable with the path of the Python that has vLLM; on this machine the path differs from the image's."""


@dataclass(frozen=True)
class Container:
    """A stage of a Dockerfile, with everything that it inherits from the stages on which it is built."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """The default arguments of the entry point."""
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: frozenset[int] = frozenset()

    def here(self, port: int, arguments: tuple[str, ...] = ()) -> list[str]:
        """The command line on this machine.

        Args:
            port: the port to listen on, instead of the image's.
            arguments: replace the image's `CMD`.
        """
        words = [*self.entrypoint, *(arguments or self.command)]
        words[0] = sys.executable if words[0] in _PYTHONS else words[0]
        listening = ["127.0.0.1" if word == "0.0.0.0" else word for word in words]
        return [*listening, "--port", str(port)]

    @property
    def variables(self) -> dict[str, str]:
        """The image's variables that mean something on this machine."""
        kept = {name: value for name, value in self.environment.items() if not _OF_THE_MACHINE.fullmatch(name)}
        if _VLLM in kept:
            del kept[_VLLM]
            kept |= {_VLLM: os.environ[_VLLM]} if _VLLM in os.environ else {}
        return kept


def base_of(dockerfile: str, stage: str) -> str:
    """The base image of a stage, through all the stages on which it is built.

    Raises:
        KeyError: there is no such stage.
    """
    bases = {match[2]: match[1] for match in map(_FROM.match, dockerfile.splitlines()) if match and match[2]}
    image = bases[stage]
    while image in bases:
        image = bases[image]
    return image


def container_of(dockerfile: str, stage: str | None = None) -> Container:
    """The container of a stage, by default the last one.

    Raises:
        KeyError: there is no such stage.
    """
    stages: dict[str, Container] = {}
    name, current = "", Container()
    for line in re.sub(r"\\\n\s*", "", dockerfile).splitlines():
        word, _, rest = line.strip().partition(" ")
        if match := _FROM.match(line.strip()):
            name, current = match[2] or "", stages.get(match[1], Container())
        elif word == "ENV":
            pairs = (pair.partition("=") for pair in shlex.split(rest))
            current = replace(current, environment={**current.environment, **{key: value for key, _, value in pairs}})
        elif word == "EXPOSE":
            current = replace(current, ports=current.ports | {int(port) for port in rest.split()})
        elif word == "ENTRYPOINT":
            current = replace(current, entrypoint=tuple(json.loads(rest)), command=())
        elif word == "CMD":
            current = replace(current, command=tuple(json.loads(rest)))
        stages[name] = current
    return current if stage is None else stages[stage]
