"""Running the gateway in this process."""

from __future__ import annotations

import ctypes
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from tunewright.config.sections import ENTRA
from tunewright.core.processes import listener
from tunewright.core.progress import say
from tunewright.gateway.app import Gateway
from tunewright.gateway.config import load_gateway
from tunewright.serving.connections import HttpServer
from tunewright.serving.server import DRAIN_SECONDS

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
"""Parameters of glibc's `mallopt` (malloc.h)."""
_BLOCK = 128 << 10
"""Bytes from which glibc gets memory from the system by itself and gives it back at once. Without that it raises the
bound to the largest block that was ever freed, and large answers among small ones leave holes: memory grew by 11 % an
hour (`bench/gateway_soak.py`)."""
_SWITCH_SECONDS = 0.0005
"""How long an own model's thread may compute before the event loop gets its turn. Python's own 5 ms would be added to
others' answers (`bench/gateway.py`, shadow)."""


def _keep_memory_whole() -> None:
    """Keep glibc's memory from being cut into pieces. Other C libraries need nothing of the kind."""
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in ((_MMAP_THRESHOLD, _BLOCK), (_TRIM_THRESHOLD, _BLOCK), (_ARENA_MAX, 1)):
            mallopt(parameter, value)


def serve_gateway(file: Path, host: str, port: int) -> None:
    """Answer until interrupted. Requests under way are answered first. At SIGHUP the settings are read again.

    Args:
        file: the settings.
        port: 0 takes any free port; the gateway prints its address when it is ready.

    Raises:
        UserError: the settings can't be used, the port is taken, a key is not set, or captures can't be written.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    _keep_memory_whole()
    started = time.monotonic()
    gateway = Gateway(lambda: load_gateway(file))
    signal.signal(signal.SIGHUP, lambda *_: gateway.reload_soon())
    listening = listener(host, port)
    # From here on the system queues connections instead of refusing them, so the message "ready" below is true.
    listening.listen(socket.SOMAXCONN)
    address = f"http://{host}:{listening.getsockname()[1]}"
    captured = f", capturing to {gateway.spec.capture.folder}" if gateway.spec.capture else ", capturing nothing"
    say(f"The gateway is ready at {address} after {time.monotonic() - started:.1f} s{captured}")
    for name, upstream in gateway.spec.upstreams.items():
        key = {None: "clients bring their own key", ENTRA: "signs in through Entra ID"}.get(
            upstream.key, f"its key is in {upstream.key}"
        )
        say(f"  {name}: {upstream.url} ({key}; models {', '.join(upstream.models)})")
    for name, setting in gateway.settings.items():
        say(f"  job {name}: {setting}")
    HttpServer(gateway, drain=DRAIN_SECONDS, date=False).run(sockets=[listening])
