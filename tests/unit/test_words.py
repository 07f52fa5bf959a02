"""How pages say numbers, days and money: as the viewer's locale writes them, and a dash for what is not known."""

import pandas as pd
import pytest
from babel import Locale

from serving.pages.frame import environment, json_data
from serving.pages.words import UNKNOWN, Say, locale_of

ENGLISH, FRENCH = Say(Locale("en", "US"), "USD"), Say(Locale("fr", "FR"), "EUR", "Europe/Paris")


def test_money_days_and_shares_are_written_as_the_locale_writes_them():
    assert ENGLISH.money(1234567.6) == "$1,234,568"
    assert ENGLISH.short_money(1234567) == "$1.23M"
    assert ENGLISH.percent(0.345) == "34%" and ENGLISH.percent(0.345, 1) == "34.5%"
    assert ENGLISH.instant(pd.Timestamp("2026-01-03 10:00", tz="UTC")) == "Jan 3, 2026, 10:00 AM"
    assert FRENCH.money(1234567.6).replace("\u202f", " ").replace("\xa0", " ") == "1 234 568 €"
    assert FRENCH.day("2026-01-03") == "3 janv. 2026"
    assert FRENCH.instant(pd.Timestamp("2026-01-03 10:00", tz="UTC")) == "3 janv. 2026, 11:00"


def test_money_is_told_in_the_viewers_currency():
    pounds = Say(Locale("en", "GB"), "GBP", rate=1.25)
    assert pounds.money(1_250_000) == "£1,000,000" and pounds.short_money(1_250_000) == "£1m"
    assert pounds.short_money(1248) == "£998" and pounds.change(-2500) == "-£2k"


@pytest.mark.parametrize("unknown", [None, float("nan"), pd.NaT, pd.NA])
def test_what_is_unknown_is_a_dash_in_every_kind(unknown):
    for say in (ENGLISH.money, ENGLISH.short_money, ENGLISH.change, ENGLISH.number, ENGLISH.percent, ENGLISH.points):
        assert say(unknown) == UNKNOWN
    for say in (ENGLISH.day, ENGLISH.instant, ENGLISH.local_day, ENGLISH.signed_percent):
        assert say(unknown) == UNKNOWN


def test_a_chance_is_never_told_as_certain_unless_it_is():
    assert [ENGLISH.percent(share) for share in (0, 0.001, 0.999, 1)] == ["0%", "< 1%", "> 99%", "100%"]


def test_the_locale_is_the_one_chosen_else_the_first_of_the_browsers_that_pages_are_written_in():
    assert str(locale_of(None, "xx, en-GB;q=0.8, *;q=0.1")) == "en_GB"
    assert str(locale_of("en", "en-GB")) == "en"
    for nonsense in ("", "nonsense;q=high", ",,;", "de;q=0.5"):
        assert str(locale_of(nonsense, nonsense)) == "en_US"


def test_what_a_page_is_told_is_text_and_never_a_tag():
    template = environment("en").from_string("{{ name }} {{ data|json_data }}")
    assert template.render(name="<b>", data="</script>") == '&lt;b&gt; "\\u003c/script\\u003e"'
    assert json_data({"a": "&"}) == '{"a": "\\u0026"}'
