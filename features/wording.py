"""How a value is said in a sentence: one thing or several, before today, today or after.

A sentence holds a figure, `{value:.0f}`, and words that follow it, `{day|days}`: for one, and for any other number.
"""

import re
from typing import Any

FIGURE = re.compile(r"\{value[^}|]*\}")
CHOICE = re.compile(r"\{(?P<words>[^{}|]*\|[^{}]*)\}")
WHOLE_NUMBER = "{value:.0f}"


def worded(sentence: str, value: Any, *, below: str = "", at_zero: str = "") -> str:
    """A sentence with its value.

    Parameters
    ----------
    value : a number; a text stands as it is.
    below : said of numbers below zero instead, with their size: "passed {value:.0f} {day|days} ago".
    at_zero : said instead of what would read as zero.
    """
    if isinstance(value, str):
        return sentence.format(value=value)
    if at_zero and not float(spoken(sentence, abs(value)).rstrip("%")):
        return at_zero
    if below and value < 0:
        sentence, value = below, -value
    said = spoken(sentence, value)
    return FIGURE.sub(said, CHOICE.sub(lambda place: place["words"].split("|")[said not in ("1", "-1")], sentence))


def spoken(sentence: str, value: float) -> str:
    """The figure of a sentence as it reads; nothing is less than zero that reads as zero."""
    figure = FIGURE.search(sentence)
    said = (figure.group() if figure else WHOLE_NUMBER).format(value=value)
    return said.removeprefix("-") if said.strip("-0.%") == "" else said
