"""An instruction without what a model knows that was trained on it."""

from __future__ import annotations

from tunewright.config.sections import LeaveOut


def without(leave_out: LeaveOut, instruction: str, placeholder: str, listing: str, bare: str) -> str:
    """The system prompt that is left.

    Args:
        placeholder: where the list of labels or fields belongs in the instruction.
        listing: that list.
        bare: the same without descriptions.
    """
    match leave_out:
        case "instruction":
            return ""
        case "list":
            return instruction.replace(placeholder, "")
        case "descriptions":
            return instruction.replace(placeholder, bare)
        case "nothing" | "template":
            return instruction.replace(placeholder, listing)
