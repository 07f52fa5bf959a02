"""Reasons in the viewer's language.

Features declare their sentences in English, and scores keep them so. Here a sentence is recognised by what declared it
and said again, its figures as the locale writes them; what is not recognised (a field of one company) stays as it is.
"""

import re
from collections.abc import Mapping
from functools import cache

from features.catalogue import CATALOGUE
from features.wording import CHOICE
from models.changes import OTHERWISE
from serving.pages.words import Say, sentences

PLACE = re.compile(r"\{(?P<figure>\w+)[^}|]*\}|" + CHOICE.pattern)
"""What a sentence leaves open: a figure, or words that go with it."""
FRAMES = (
    "{now}; before: {then}",
    "{sentence}; deals won from this stage: {usual}",
    "{name} unknown: {missing}",
)
"""Sentences made of sentences, the outermost first."""
WHOLE = (
    *OTHERWISE.values(),
    "what was learned later of how the deal stood on {day}",
    "model {new} instead of {old}",
    "time passed, with the deal as it was",
    "the deal changed",
)
NUMBER = re.compile(r"(-?[\d,]+(?:\.(\d+))?)(%?)(?: (days?|minutes?))?")


def tell(say: Say, text: str) -> str:
    """A reason or a change as the viewer reads it."""
    known = sentences(say.language)
    if not known:
        return text
    for template, pattern in patterns():
        found = pattern.fullmatch(text)
        if found and template in known:
            return fill_in(say, known[template], found.groupdict())
    return text


def fill_in(say: Say, template: str, values: Mapping[str, str]) -> str:
    """A sentence with its figures, and the words that go with them as the language counts."""
    counted = next((abs(int(float(n[1].replace(",", "")))) for n in map(NUMBER.fullmatch, values.values()) if n), 0)

    def filled(place: re.Match[str]) -> str:
        figure = place["figure"]
        return tell_value(say, values[figure]) if figure else place["words"].split("|")[say.plural(counted)]

    return PLACE.sub(filled, template)


def tell_value(say: Say, value: str) -> str:
    """A figure as the locale writes it; words as sentences of their own."""
    found = NUMBER.fullmatch(value)
    if found is None:
        return tell(say, value)
    digits, decimals, percent, unit = found.groups()
    number = float(digits.replace(",", ""))
    told = say.percent(number / 100) if percent else say.number(number, len(decimals or ""))
    return told + (f" {sentences(say.language).get(unit, unit)}" if unit else "")


@cache
def patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """Every sentence that may be told, with what recognises it."""
    told = (feature for feature in CATALOGUE if feature.audience != "none")
    reasons = [each for feature in told for each in feature.sentences]
    return tuple((template, pattern_of(template)) for template in dict.fromkeys([*FRAMES, *WHOLE, *reasons]))


def pattern_of(template: str) -> re.Pattern[str]:
    """What a sentence looks like with its figures filled in."""
    parts, last = [], 0
    for place in PLACE.finditer(template):
        figure = place["figure"]
        parts += [re.escape(template[last : place.start()]), f"(?P<{figure}>.+?)" if figure else any_of(place["words"])]
        last = place.end()
    return re.compile("".join([*parts, re.escape(template[last:])]))


def any_of(words: str) -> str:
    """A pattern of words that go with a figure."""
    return "(?:" + "|".join(re.escape(each) for each in words.split("|")) + ")"
