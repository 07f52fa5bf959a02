"""Every text of the pages is there in every language, for every plural, with the same places to fill in."""

import re
from pathlib import Path

import pytest
from babel import Locale
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from features.catalogue import CATALOGUE
from features.wording import CHOICE
from models.reasons import feature_sentence
from serving.pages.reasons import FRAMES, PLACE, WHOLE, patterns, tell
from serving.pages.words import LANGUAGES, Say, locale_of, sentences, translations

PAGES = Path(__file__).resolve().parents[2] / "serving" / "pages"
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2.ext:babel_extract")]
OPTIONS = {"templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true"}}
KEYWORDS = {"_": None, "gettext": None, "later": None, "ngettext": (1, 2)}
BLANK = re.compile(r"%\((\w+)\)s|%(?!\()")
FORMS = {"fr": 2, "ro": 3}
"""How many ways to count a language has."""
TRANSLATED = [language for language, path in LANGUAGES.items() if path is not None]


def texts_of_the_pages() -> set:
    """Every text that templates and modules mark for translation; one with a plural as a pair."""
    found = extract_from_dir(PAGES, METHODS, OPTIONS, keywords=KEYWORDS)
    return {text if isinstance(text, str) else tuple(text) for _, _, text, _, _ in found}


def catalogue(language: str):
    with LANGUAGES[language].open("rb") as written:
        return read_po(written, locale=language)


def key_of(message):
    return message.id if isinstance(message.id, str) else tuple(message.id)


def test_french_and_romanian_are_there():
    assert {"fr", "ro"} <= set(TRANSLATED)


@pytest.mark.parametrize("language", TRANSLATED)
def test_no_text_is_missing_fuzzy_or_left_over(language):
    messages = [message for message in catalogue(language) if message.id]
    known = {key_of(message) for message in messages}
    texts = texts_of_the_pages()
    assert len(texts) > 200
    assert not texts - known, f"without a translation into {language}: `make texts`, then translate"
    assert not known - texts, f"translated into {language}, but on no page any more: `make texts`"
    assert not [message.id for message in messages if message.fuzzy]
    for message in messages:
        strings = [message.string] if isinstance(message.string, str) else message.string
        assert all(text.strip() for text in strings), message.id


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_translation_fills_in_what_the_text_fills_in(language):
    for message in catalogue(language):
        ids = [message.id] if isinstance(message.id, str) else message.id
        strings = [message.string] if isinstance(message.string, str) else message.string
        wanted = sorted(place[0] for place in BLANK.finditer(ids[-1]))
        for text in strings if message.id else ():
            assert sorted(place[0] for place in BLANK.finditer(text)) == wanted, (message.id, text)


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_plural_has_as_many_forms_as_the_language(language):
    forms = FORMS[language]
    plurals = [message for message in catalogue(language) if isinstance(message.id, tuple | list)]
    assert plurals and all(len(message.string) == forms for message in plurals)
    written = LANGUAGES[language].read_text("utf-8")
    assert f"nplurals={forms};" in written


def test_romanian_counts_in_three_ways_and_french_counts_none_as_one():
    ngettext = translations("ro").ngettext
    one, many = "%(n)s more deal brings less.", "%(n)s more deals bring less."
    assert [ngettext(one, many, n) % {"n": n} for n in (1, 2, 20)] == [
        "Încă 1 oportunitate aduce mai puțin.",
        "Încă 2 oportunități aduc mai puțin.",
        "Încă 20 de oportunități aduc mai puțin.",
    ]
    ngettext = translations("fr").ngettext
    assert [ngettext(one, many, n) % {"n": n} for n in (0, 2)] == [
        "0 autre affaire apporte moins.",
        "2 autres affaires apportent moins.",
    ]


def test_numbers_and_days_follow_the_language():
    assert locale_of(None, "ro-RO,ro;q=0.9,en;q=0.5").language == "ro"
    french, romanian = (Say(Locale.parse(tag), "EUR") for tag in ("fr", "ro"))
    assert french.money(1234567).replace("\u202f", " ").replace("\xa0", " ") == "1 234 567 €"
    assert romanian.money(1234567).replace("\xa0", " ") == "1.234.567 EUR"
    assert french.day("2026-03-03") == "3 mars 2026" and romanian.day("2026-03-03") == "3 mar. 2026"


# -- the sentences of features ---------------------------------------------------------------------------------------


def tellable() -> set[str]:
    """Every sentence that reasons and changes are made of."""
    told = [feature for feature in CATALOGUE if feature.audience != "none"]
    return {*FRAMES, *WHOLE, *(each for feature in told for each in feature.sentences)}


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_sentence_of_a_feature_is_translated_with_its_figures(language):
    known = sentences(language)
    assert known.keys() == tellable() | {"day", "days", "minute", "minutes"}
    for english, other in known.items():
        assert figures(english) == figures(other) and other.strip()
        assert all(len(place["words"].split("|")) == FORMS[language] for place in CHOICE.finditer(other)), other


def figures(sentence: str) -> list[str]:
    return sorted(place["figure"] for place in PLACE.finditer(sentence) if place["figure"])


def test_a_reason_is_said_again_with_figures_as_the_locale_writes_them():
    french, romanian = (Say(Locale.parse(tag), "EUR") for tag in ("fr", "ro"))
    english = Say(Locale("en", "US"), "EUR")
    text = "1.4 times as long in this stage as won deals; before: no activity for 1234 days"
    assert tell(english, text) == text
    assert tell(french, text).replace("\u202f", " ").replace("\xa0", " ") == (
        "1,4 fois plus longtemps dans cette étape que les affaires gagnées ; avant : aucune activité depuis 1 234 jours"
    )
    compared = "12 days in this stage; deals won from this stage: 5 days"
    assert tell(romanian, compared) == "zile în această etapă: 12; oportunități câștigate din această etapă: 5 zile"
    assert tell(romanian, "competitor: Northwind") == "competitor: Northwind"
    unknown = "days since last inbound unknown: no activities recorded"
    assert tell(french, unknown).endswith("aucune activité enregistrée")


VALUES = (-130.0, -2.0, -1.0, -0.3, 0.0, 1.0, 2.0, 130.0)


@pytest.mark.parametrize("feature", [each for each in CATALOGUE if each.audience != "none"], ids=lambda each: each.name)
def test_every_sentence_is_recognised_as_the_one_it_is_whatever_its_value(feature):
    small = feature.kind == "number" and feature.unit.startswith("log of")
    for value in ("Proposal",) if feature.kind == "category" else VALUES[: -1 if small else None]:
        said = feature_sentence(feature.name, feature, value)
        template = next(template for template, pattern in patterns() if pattern.fullmatch(said))
        assert template in feature.sentences, said
        for language in TRANSLATED:
            told = tell(Say(Locale(language), "EUR"), said)
            assert (told != said or feature.kind == "category") and not set("{|}") & set(told)


def test_french_counts_the_thing_with_its_figure():
    french = Say(Locale("fr"), "EUR")
    assert tell(french, "close date passed 1 day ago") == "date de clôture passée depuis 1 jour"
    assert tell(french, "close date passed 2 days ago") == "date de clôture passée depuis 2 jours"
    assert tell(french, "1 person of the buyer took part so far") == "1 personne de l'acheteur a pris part à ce jour"
    assert tell(french, "3 days in this stage; deals won from this stage: 1 day").endswith("1 jour")
