"""Predictors: each turns a request into an answer, with a language model, an encoder or a linear model."""

from tunewright.inference.predictors.base import Answer, GenerationConfig, Pieces, Predictor, Token
from tunewright.inference.predictors.encoder import EncoderPredictor, LabelClassifier, LabelSetClassifier
from tunewright.inference.predictors.language_model import LabelScorer, language_model
from tunewright.inference.predictors.prompted import LanguageModel
from tunewright.inference.predictors.tagger import RecordTagger, encoder_predictor
from tunewright.inference.predictors.writers import RecordReader, TextGenerator

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
