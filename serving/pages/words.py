"""The viewer's language: texts through gettext, numbers, days and money as the locale writes them. Only here is Babel.

A translation is `locale/LANGUAGE/LC_MESSAGES/messages.po`; it is read as it is, without a compiled file beside it.
"""

import gettext
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import (
    format_compact_currency,
    format_compact_decimal,
    format_currency,
    format_decimal,
    format_percent,
)

from crm.calendar import Period

UNKNOWN = "–"
"""What stands where a value is not known: never an empty cell, never a zero."""
CATALOGUES = Path(__file__).with_name("locale")
LANGUAGES: Mapping[str, Path | None] = {
    "en": None,
    **{path.parents[1].name: path for path in sorted(CATALOGUES.glob("*/LC_MESSAGES/messages.po"))},
}
"""The languages that pages are written in, with their catalogue; English needs none."""


def later(text: str) -> str:
    """Mark a text of a constant for translation, which happens when it is shown: `say.gettext(LABELS[name])`."""
    return text


@cache
def translations(language: str) -> gettext.NullTranslations:
    """The texts of a language."""
    path = LANGUAGES[language]
    if path is None:
        return gettext.NullTranslations()
    compiled = io.BytesIO()
    with path.open("rb") as written:
        write_mo(compiled, read_po(written, locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


@cache
def sentences(language: str) -> Mapping[str, str]:
    """The sentences of features in a language, by the English one: `reasons.po`; none in English."""
    path = LANGUAGES[language]
    if path is None:
        return {}
    with path.with_name("reasons.po").open("rb") as written:
        return {str(each.id): str(each.string) for each in read_po(written, locale=language) if each.id}


def locale_of(wanted: str | None, accept_language: str) -> Locale:
    """The locale a viewer chose, else the first of the browser's that pages are written in, else American English."""
    for tag in (wanted or "", *preferred(accept_language)):
        try:
            locale = Locale.parse(tag, sep="-")
        except (ValueError, UnknownLocaleError, TypeError):
            continue
        if locale.language in LANGUAGES:
            return locale
    return Locale("en", "US")


def preferred(accept_language: str) -> list[str]:
    """The language tags of an Accept-Language header, the most wanted first."""
    tags = []
    for place, part in enumerate(accept_language.split(",")[:20]):
        tag, _, quality = part.partition(";q=")
        try:
            tags.append((-float(quality or 1), place, tag.strip()))
        except ValueError:
            continue
    return [tag for _, _, tag in sorted(tags)]


def is_unknown(value: Any) -> bool:
    """None, NaN and NaT say nothing."""
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)) or value is pd.NA


@dataclass(frozen=True)
class Say:
    """How everything is said to one viewer. What is unknown is a dash, in every kind.

    Attributes
    ----------
    currency : ISO code in which money is told.
    rate : what one unit of it is worth in base currency, in which money is given.
    time_zone : the company's, in which instants are told.
    """

    locale: Locale
    currency: str = "USD"
    time_zone: str = "UTC"
    rate: float = 1.0

    @property
    def language(self) -> str:
        """The language of the texts."""
        return str(self.locale.language)

    @property
    def tag(self) -> str:
        """The locale as HTML and JavaScript name it."""
        return str(self.locale).replace("_", "-")

    @property
    def gettext(self) -> Callable[[str], str]:
        """A text in the viewer's language."""
        return translations(self.language).gettext

    def plural(self, count: int) -> int:
        """Which of the forms of a counted word this language uses for a number."""
        return int(getattr(translations(self.language), "plural", (1).__ne__)(count))

    def language_name(self, language: str) -> str:
        """A language as those who speak it call it."""
        return str(Locale(language).get_display_name(language)).capitalize()

    def unknown(self, value: Any) -> bool:
        """Whether there is nothing to say."""
        return is_unknown(value)

    def money(self, value: Any) -> str:
        """An amount to the unit: $1,234,568."""
        if is_unknown(value):
            return UNKNOWN
        pattern = self.locale.currency_formats["standard"].pattern.split(";")[0].replace(".00", "")
        amount = Decimal(round(float(value) / self.rate))
        return format_currency(amount, self.currency, pattern, self.locale, currency_digits=False)

    def short_money(self, value: Any) -> str:
        """An amount at a glance: $1.23M."""
        if is_unknown(value):
            return UNKNOWN
        amount = float(value) / self.rate
        if abs(amount) < 999.5:
            return self.money(value)
        digits = 2 if abs(amount) >= 1e6 else 0
        return format_compact_currency(amount, self.currency, locale=self.locale, fraction_digits=digits)

    def change(self, value: Any) -> str:
        """A difference of money, with its sign."""
        return UNKNOWN if is_unknown(value) else ("+" if float(value) > 0 else "") + self.short_money(value)

    def number(self, value: Any, decimals: int = 0) -> str:
        """A number with so many decimals."""
        if is_unknown(value):
            return UNKNOWN
        return format_decimal(round(float(value), decimals) + 0.0, "#,##0." + "0" * decimals, self.locale)

    def short_number(self, value: Any) -> str:
        """A number at a glance: 21K."""
        return UNKNOWN if is_unknown(value) else format_compact_decimal(float(value), locale=self.locale)

    def percent(self, share: Any, decimals: int = 0) -> str:
        """A share of 1 in percent; a chance that is neither 0 nor 1 is never told as if it were."""
        if is_unknown(share):
            return UNKNOWN
        points = 100 * float(share)
        least = 10.0**-decimals
        if 0 < points < least / 2:
            return "< " + self._percent(least, decimals)
        if 100 - least / 2 <= points < 100:
            return "> " + self._percent(100 - least, decimals)
        return self._percent(points, decimals)

    def points(self, value: Any) -> str:
        """A difference in points of a probability, with its sign."""
        return UNKNOWN if is_unknown(value) else ("+" if float(value) > 0.05 else "") + self.number(value, 1)

    def signed_percent(self, share: Any) -> str:
        """A relative difference, with its sign."""
        if is_unknown(share):
            return UNKNOWN
        return ("+" if float(share) >= 0.005 else "") + self._percent(100 * float(share), 0)

    def day(self, day: Any) -> str:
        """A day: 3 Mar 2026, as the locale writes it."""
        return UNKNOWN if is_unknown(day) else format_date(as_day(day), "medium", self.locale)

    def span(self, period: Period) -> str:
        """The first and the last day of a period."""
        return f"{self.day(period.start)} – {self.day(period.end - timedelta(days=1))}"

    def instant(self, at: Any) -> str:
        """An instant in the company's time zone."""
        if is_unknown(at):
            return UNKNOWN
        local = pd.Timestamp(at).tz_convert(self.time_zone).to_pydatetime(warn=False)
        clock = format_time(local.replace(tzinfo=None), "short", locale=self.locale).replace("\u202f", " ")
        return f"{self.day(local)}, {clock}"

    def local_day(self, at: Any) -> str:
        """The local day of an instant."""
        return UNKNOWN if is_unknown(at) else self.day(pd.Timestamp(at).tz_convert(self.time_zone))

    def _percent(self, points: float, decimals: int) -> str:
        pattern = self.locale.percent_formats[None].pattern.replace(
            "#,##0", "#,##0" + "." * bool(decimals) + "0" * decimals
        )
        return format_percent(Decimal(str(round(points, decimals) + 0.0)) / 100, pattern, self.locale)


def as_day(day: Any) -> date:
    """A day of whatever kind holds it."""
    if isinstance(day, pd.Timestamp | datetime):
        return pd.Timestamp(day).date()
    return date.fromisoformat(day) if isinstance(day, str) else day
