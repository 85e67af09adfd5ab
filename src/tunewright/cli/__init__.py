"""The command line: one thin module for each verb. A verb parses, calls one library function, and prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Entry point of `tunewright`. Exit codes: 0 done, 1 a gate failed, 2 a user error, 130 interrupted."""
    from tunewright.cli.app import app
    from tunewright.core.errors import EXIT_GATE, EXIT_INTERRUPTED, EXIT_USER, GateFailed, UserError, as_user_error
    from tunewright.core.progress import say

    try:
        app()
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
        # typer has already turned Ctrl-C into this exit code, without a word.
        if end.code == EXIT_INTERRUPTED:
            say("Interrupted. Whole steps are kept; the same command goes on from there.")
        raise
