"""Whatever answers an example. A predictor is a name and a function from a request to an answer."""

from tunewright.inference.predictors.base import Answer, GenerationConfig, Pieces, Predictor, Token
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
    "GenerationConfig",
    "LabelClassifier",
    "LabelScorer",
    "LabelSetClassifier",
    "LanguageModel",
    "Pieces",
    "Predictor",
    "RecordReader",
    "RecordTagger",
    "TextGenerator",
    "Token",
    "encoder_predictor",
    "language_model",
]
