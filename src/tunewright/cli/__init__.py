"""The command line: one thin module per command. A command parses, calls one library function, and prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Entry point of `tunewright`. Exit codes: 0 success, 1 failed gate, 2 user error, 130 interrupted."""
    from tunewright.cli.app import command_line
    from tunewright.core.errors import EXIT_GATE, EXIT_INTERRUPTED, EXIT_USER, GateFailed, UserError, as_user_error
    from tunewright.core.progress import say
    from tunewright.core.threads import confine

    confine()
    try:
        command_line(*sys.argv[1:2])()
    except UserError as error:
        say(f"Error: {error.paragraph()}")
        sys.exit(EXIT_USER)
    except GateFailed as error:
        say(f"Gate failed: {error}")
        sys.exit(EXIT_GATE)
    except (OSError, ModuleNotFoundError) as error:
        known = as_user_error(error, Path.cwd())
        if known is None or os.environ.get("TUNEWRIGHT_TRACE"):
            raise
        say(f"Error: {known.paragraph()}")
        sys.exit(EXIT_USER)
    except SystemExit as end:
        # typer has turned Ctrl-C into this exit code without a message.
        if end.code == EXIT_INTERRUPTED:
            say("Interrupted. Finished steps are kept; the same command continues from there.")
        raise
