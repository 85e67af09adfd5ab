"""The language of a short text, or None where the text does not show it clearly.

py3langid (BSD-3-Clause; Lui and Baldwin 2012, "langid.py: An Off-the-shelf Language Identification Tool") gives each
language a probability from the byte n-grams of a text. It always has a best one, even for "ok thx". So this module
names a language only for a text that is long enough, with enough confidence. Short English texts must not pass for
another language. So two more things must hold before a text counts as another language than English: it has no English
function word, and its lower-case words alone point to the same language, because names of people, streets and products
are the same in all languages.

The constants were chosen on BANKING77's training part, Presidio's synthetic sentences and part A of
tests/data/foreign_sentences.json (`python bench/language_settings.py`); `python bench/language.py` reports the results
on other data.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

READ = 100
"""Characters that the model reads: the time grows with them."""
WORDS = 5
"""Fewest words for a language to be named; 0.1 in 1,000 English questions cut to so many pass for another language."""
SIGNS = 6
"""The same in characters, for scripts without spaces and for Korean, which has few."""
CONFIDENCE = 0.4
"""Probability below which no language is named; py3langid tempers it by the text's length."""

CLEARLY = 2
"""Different English function words from which a text counts as English without asking the model."""

# Words that few other languages have ("my" is Polish and Afrikaans too, where it costs some recall).
_ENGLISH = frozenset(
    [
        "the",
        "and",
        "my",
        "your",
        "you",
        "what",
        "how",
        "why",
        "when",
        "where",
        "which",
        "this",
        "that",
        "with",
        "have",
        "did",
        "does",
        "would",
        "should",
        "could",
        "please",
        "there",
        "it's",
        "i'm",
        "i've",
        "don't",
        "can't",
    ]
)
_WORD = re.compile(r"[^\W\d_]\S*")
_SIGN = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_NO_LANGUAGE = "zxx"  # the model's class of numbers, links and keys


def language_of(text: str) -> str | None:
    """The ISO 639-1 code of the language in which `text` begins, None where it is too short or unclear."""
    beginning = text[:READ]
    words = _WORD.findall(beginning)
    if len(words) < WORDS and len(_SIGN.findall(beginning)) < SIGNS:
        return None
    if len(_ENGLISH.intersection(word.lower() for word in words)) >= CLEARLY:
        return "en"
    language, confidence = _identifier().classify(beginning)
    if language == _NO_LANGUAGE or confidence < CONFIDENCE:
        return None
    if language == "en" or _holds_without_names(words, language):
        return str(language)
    return None


def _holds_without_names(words: list[str], language: str) -> bool:
    """Whether the words of a text that looks like `language`, not English, still do without names."""
    if not _ENGLISH.isdisjoint(word.lower() for word in words):
        return False
    lower = [word for word in words if word[0] == word[0].lower()]
    # One capital begins the sentence, and capitals mark no names in a text all in capitals.
    if len(words) - len(lower) <= 1 or all(word.isupper() for word in words):
        return True
    return bool(_identifier().classify(" ".join(lower))[0] == language)


@cache
def _identifier() -> LanguageIdentifier:
    """The model (loads in half a second), restricted to the languages that have an ISO 639-1 code.

    This leaves out Nigerian Pidgin above all, for which it would take English questions.
    """
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([label for label in identifier.labels if len(label) == 2 or label == _NO_LANGUAGE])
    return identifier
