"""What growth holds back, and why."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.data.corrections import Correction

WAITS = "waits for another reviewer"
DISAGREE = "reviewers disagree"
FEEDBACK = "feedback alone"
NEW_LABEL = "a label that the spec does not have"
UNFIT = "no answer of this task"
UNUSABLE = "can't be trained on"
CONTRADICTS = "contradicts the data"
CHANGED = "contradicts the corrections"
TESTED = "stands in a test"
COPY = "adds nothing"
PULL = "one source pulls an answer"

REMEDIES = {
    WAITS: "Have these reviewed by as many people as you asked for: tunewright review PROJECT",
    DISAGREE: "Settle these on the page Agreement: tunewright review PROJECT",
    FEEDBACK: "Who asked says so, which anybody with a key can: review these, or release a key's that you trust: "
    "--include feedback:KEY",
    NEW_LABEL: "Add the label under task.labels and type this again, or review these anew.",
    UNFIT: "Review these anew, or mend the task in the spec.",
    UNUSABLE: "Nothing to do, or raise train.max_length where they are too long.",
    CONTRADICTS: "Mend the old row where it is wrong, or have a second person review these: two who agree are taken.",
    CHANGED: "To let the reviews decide anew, move the corrections' folder away and type this again.",
    TESTED: "Nothing to do: what a model is tested on is not taught.",
    COPY: "Nothing to do: the data says so already.",
    PULL: "Look at these. Where they are right, release them: --include SOURCE  Or have a second person review them.",
}
"""What to do about each, in the order in which they are told."""
SETTLED = (COPY, TESTED)
"""What need not be looked at again."""


@dataclass(frozen=True)
class RejectedCorrection:
    """A capture that was reviewed and is not taken."""

    reason: str
    """A key of REMEDIES."""
    capture: str
    text: str
    answer: str
    """What people say."""
    said: str
    """What the model said."""
    detail: str = ""
    """What it contradicts, or repeats, and where."""
    source: str = ""
    """Under which name `--include` releases it."""


def reject(reason: str, correction: Correction, detail: str = "", source: str = "") -> RejectedCorrection:
    return RejectedCorrection(
        reason, correction.capture, correction.text, correction.answer, correction.said, detail, source
    )
