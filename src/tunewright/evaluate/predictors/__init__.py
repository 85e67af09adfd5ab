"""Whatever answers an example. A predictor is a name and a function from a request to an answer."""

from tunewright.evaluate.predictors.base import Answer, Pieces, Predictor, Terms, Token
from tunewright.evaluate.predictors.classical import LinearSvm, Majority
from tunewright.evaluate.predictors.controls import controls
from tunewright.evaluate.predictors.encoder import EncoderPredictor, LabelClassifier, LabelSetClassifier
from tunewright.evaluate.predictors.language_model import (
    LabelScorer,
    LanguageModel,
    RecordReader,
    TextGenerator,
    language_model,
)
from tunewright.evaluate.predictors.records import Nearest, Patterns
from tunewright.evaluate.predictors.tagger import RecordTagger, encoder_predictor

__all__ = [
    "Answer",
    "EncoderPredictor",
    "LabelClassifier",
    "LabelScorer",
    "LabelSetClassifier",
    "LanguageModel",
    "LinearSvm",
    "Majority",
    "Nearest",
    "Patterns",
    "Pieces",
    "Predictor",
    "RecordReader",
    "RecordTagger",
    "Terms",
    "TextGenerator",
    "Token",
    "controls",
    "encoder_predictor",
    "language_model",
]
