"""What a feature's value is called in words: one thing or several, what is ahead and what has passed."""

import re

import pytest

from features.catalogue import BY_NAME, CATALOGUE
from features.wording import worded
from models.reasons import feature_sentence

NUMBERS = (-130.0, -2.0, -1.0, -0.3, 0.0, 0.3, 1.0, 2.0, 130.0)
ONE_OF_MANY = re.compile(
    r"(?<![\d.])1 (?:\w+ ){0,2}?\w*(days|times|deals|moves|months|people|messages|activities|minutes|roles)\b"
)
SEVERAL_OF_ONE = re.compile(
    r"(?<![\d.])(?:0|2|130) (?:\w+ )?(day|time|deal|move|month|person|message|activity|minute|role)\b"
)
NEGATIVE_ZERO = re.compile(r"-0(?![.\d])")
FIELD_DATES = ("days_to:start_date", "days_to_instant:start_date")


@pytest.mark.parametrize("value", NUMBERS)
def test_no_sentence_counts_one_thing_as_several_or_several_as_one(value):
    declared = [each for each in CATALOGUE if each.kind == "number"]
    assert len(declared) > 60
    for each in [*declared, *map(BY_NAME.__getitem__, FIELD_DATES)]:
        said = feature_sentence(each.name, each, value, usual=1.0)
        assert not ONE_OF_MANY.search(said), said
        assert not SEVERAL_OF_ONE.search(said), said
        assert not NEGATIVE_ZERO.search(said) and not set("{|}") & set(said), said
        if value < 0 and can_be_negative(each):
            assert "-" not in said, said


def can_be_negative(feature) -> bool:
    """Dates ahead, sums of moves, changes of money: what their descriptions say may be below zero."""
    return feature.below != ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "days_to_close_date",
            ["passed 130 days ago", "passed 2 days ago", "passed 1 day ago", "today", "1 day ahead", "2 days ahead"],
        ),
        (
            "days_to:start_date",
            ["130 days ago", "2 days ago", "1 day ago", "today", "in 1 day", "in 2 days"],
        ),
        (
            "days_to_contract_end",
            [
                "ended 130 days ago",
                "ended 2 days ago",
                "ended 1 day ago",
                "ends today",
                "ends in 1 day",
                "ends in 2 days",
            ],
        ),
        (
            "close_date_days_pushed",
            [
                *("earlier by 130 days in all", "earlier by 2 days in all", "earlier by 1 day in all"),
                *("where it was at first", "later by 1 day in all", "later by 2 days in all"),
            ],
        ),
    ],
)
def test_before_and_after_are_told_in_words(name, said):
    values = (-130.0, -2.0, -1.0, 0.0, 1.0, 2.0)
    told = [feature_sentence(name, BY_NAME[name], value) for value in values]
    assert [each[-len(end) :] for each, end in zip(told, said, strict=True)] == said


def test_every_feature_whose_description_knows_negative_values_has_words_for_them():
    spoken = {each.name for each in CATALOGUE if "negative" in each.description and each.audience != "none"}
    assert spoken and all(BY_NAME[name].below for name in spoken)


def test_what_is_usual_is_told_with_its_side_of_today():
    said = feature_sentence("days_to_close_date", BY_NAME["days_to_close_date"], -5.0, usual=12.0)
    assert said == "close date passed 5 days ago; deals won from this stage: close date 12 days ahead"
    assert feature_sentence("days_in_stage", BY_NAME["days_in_stage"], 5.0, usual=1.0).endswith(": 1 day")


def test_a_figure_with_decimals_is_never_one_thing():
    assert worded("within {value:.1f} {day|days}", 1.0) == "within 1.0 days"
    assert worded("{value:.0%} of {it|them}", -0.004) == "0% of them"
