"""Whatever answers an example. A predictor is a name and a function from a request to an answer."""

from tunewright.evaluate.predictors.base import Answer, Predictor
from tunewright.evaluate.predictors.classical import LinearSvm, Majority
from tunewright.evaluate.predictors.language_model import LabelScorer

__all__ = ["Answer", "LabelScorer", "LinearSvm", "Majority", "Predictor"]
