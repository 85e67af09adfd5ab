"""Whatever answers an example. A predictor is a name and a function from a request to an answer."""

from tunewright.inference.predictors.base import Answer, Pieces, Predictor, Terms, Token
from tunewright.inference.predictors.encoder import EncoderPredictor, LabelClassifier, LabelSetClassifier
from tunewright.inference.predictors.language_model import (
    LabelScorer,
    LanguageModel,
    RecordReader,
    TextGenerator,
    language_model,
)
from tunewright.inference.predictors.tagger import RecordTagger, encoder_predictor

__all__ = [
    "Answer",
    "EncoderPredictor",
    "LabelClassifier",
    "LabelScorer",
    "LabelSetClassifier",
    "LanguageModel",
    "Pieces",
    "Predictor",
    "RecordReader",
    "RecordTagger",
    "Terms",
    "TextGenerator",
    "Token",
    "encoder_predictor",
    "language_model",
]
