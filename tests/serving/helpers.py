"""A server of the review app, or of a model that echoes the request, as a child process:

    python -m tests.serving.helpers (serve | review FOLDER) [hold]

It prints its port. With `hold` it takes all free file descriptors at the first line on its input, and frees them at the
second.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from tunewright.core.processes import listener
from tunewright.serving.connections import HttpServer


def application(kind: str, folder: str) -> Any:
    if kind == "review":
        from tests.monitoring.reviewing import site_with
        from tunewright.monitoring.store.database import open_at
        from tunewright.review.app import build_app as build_review

        return build_review(site_with(open_at(f"sqlite:///{Path(folder) / 'monitor.db'}")))
    from tests.serving.test_app import Echo
    from tunewright.serving.app import build_app
    from tunewright.serving.hosts import OneModel

    return build_app(OneModel(Echo("classify")))


def hold_descriptors() -> None:
    sys.stdin.readline()
    held = []
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        print("held", flush=True)
    sys.stdin.readline()
    for each in held:
        os.close(each)


def main() -> None:
    kind, folder, *more = [*sys.argv[1:], ""]
    app = application(kind, folder)
    bound = listener("127.0.0.1", 0)
    bound.listen(socket.SOMAXCONN)
    print(bound.getsockname()[1], flush=True)
    if "hold" in (folder, *more):
        threading.Thread(target=hold_descriptors, daemon=True).start()
    HttpServer(app).run(sockets=[bound])


if __name__ == "__main__":
    main()
