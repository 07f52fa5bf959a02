"""The frame around every page: the head, the navigation, the viewer's language and theme. Only here is Jinja2.

A page is a template in `templates/` that extends `frame.html`, and a route that ends with `show(request, "x.html", …)`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from crm.money import Rate, RateBook
from serving.cookies import csrf_token_of
from serving.pages.assets import address, answer_compressed, libraries_missing
from serving.pages.reasons import tell
from serving.pages.words import LANGUAGES, Say, later, locale_of, translations

TEMPLATES = Path(__file__).with_name("templates")
THEME_COOKIE, LOCALE_COOKIE, CURRENCY_COOKIE = "dealcast_theme", "dealcast_locale", "dealcast_currency"
THEMES = {"auto": later("As the system"), "light": later("Light"), "dark": later("Dark")}
CHOICES_LAST = 365 * 24 * 3600


@dataclass(frozen=True)
class Link:
    """A page in the navigation; `only_users`: for keys of a CRM user alone."""

    path: str
    label: str
    only_users: bool = False


NAVIGATION = (
    Link("/me", later("My page"), only_users=True),
    Link("/review", later("Review")),
    Link("/changes", later("What changed")),
    Link("/deals", later("Deals")),
    Link("/accuracy", later("Accuracy")),
)
"""The pages, in the order in which they are offered."""


@cache
def environment(language: str) -> Environment:
    """The templates with the texts of one language; everything that is shown is escaped."""
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    found.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    found.filters["json_data"] = json_data
    found.globals.update(asset=address, themes=THEMES, languages=tuple(LANGUAGES), with_query=with_query, tell=tell)
    return found


def show(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page with these values.

    Templates know besides: `say` (how numbers, days and money are written), `_` (texts), `caller` (None before
    sign-in), `here` (this page's path), `csrf_token`, `theme`, `asset(name)`.
    """
    say = say_to(request)
    caller = getattr(request.state, "caller", None)
    is_user = caller is not None and caller.user_id is not None
    known = {
        "caller": caller,
        "reader": reader_shown(request),
        "here": request.url.path,
        "query": dict(request.query_params),
        "navigation": [link for link in NAVIGATION if caller is not None and (is_user or not link.only_users)],
        "theme": theme_of(request),
        "csrf_token": csrf_token_of(request),
        "libraries": not libraries_missing(),
        "moment": moment_shown(request),
        "priced": priced_for(request),
    }
    page = render(say, template, **{**known, **values})
    return answer_compressed(request, page.encode(), "text/html; charset=utf-8", status=status)


def render(say: Say, template: str, **values: Any) -> str:
    """What a template says to one viewer, of these values alone."""
    return environment(say.language).get_template(template).render({"say": say, **values})


def show_or_part(request: Request, template: str, part: str, **values: Any) -> Response:
    """The whole page, or, where htmx asks for a piece of it, the template of that piece."""
    return show(request, part if request.headers.get("hx-request") == "true" else template, **values)


def say_to(request: Request) -> Say:
    """How things are said to whoever sends the request."""
    locale = locale_of(request.cookies.get(LOCALE_COOKIE), request.headers.get("accept-language", ""))
    priced = priced_for(request)
    if priced is None:
        return Say(locale)
    zone = str(state_shown(request).tables.calendar.time_zone)
    return Say(locale, priced.rate.currency, zone, priced.rate.to_base)


@dataclass(frozen=True)
class Priced:
    """In which currency an answer tells money.

    Attributes
    ----------
    rate : of the currency that is told: the one that was chosen, or, if no rate of it is known, the base currency.
    wanted : the currency that was chosen.
    offered : the currencies to choose from.
    """

    rate: Rate
    wanted: str
    offered: Sequence[str]


def price_at(request: Request, moment: pd.Timestamp) -> None:
    """Let an answer tell money at the rates of a moment, not at those of the data's."""
    request.state.priced_at = moment


def priced_for(request: Request) -> Priced | None:
    """In which currency a viewer reads money; None before the first data are loaded."""
    state = state_shown(request)
    if state is None:
        return None
    book: RateBook = state.rates
    chosen = request.cookies.get(CURRENCY_COOKIE)
    wanted = chosen if chosen in book.currencies else book.base_currency
    rate = book.rate_of(wanted, getattr(request.state, "priced_at", state.as_of))
    return Priced(rate or Rate(book.base_currency, 1.0), wanted, book.currencies)


def state_shown(request: Request) -> Any:
    """The state that the service answers from, None before the first is loaded."""
    follower = getattr(request.app.state, "follower", None)
    return None if follower is None else follower.state


def moment_shown(request: Request) -> Any:
    """The data's moment, for the foot of a page; None before the first data are loaded."""
    state = state_shown(request)
    return None if state is None else state.as_of


def reader_shown(request: Request) -> str | None:
    """What whoever is signed in is called: by the CRM if it knows the person, else as the key is; None before that."""
    caller, state = getattr(request.state, "caller", None), state_shown(request)
    names = {} if state is None else state.user_names
    return None if caller is None else names.get(caller.user_id, caller.name)


def theme_of(request: Request) -> str:
    """The theme that the viewer chose."""
    wanted = request.cookies.get(THEME_COOKIE, "auto")
    return wanted if wanted in THEMES else "auto"


def choose(request: Request) -> Response:
    """Keep the theme, language and currency that a viewer chose in a cookie, and go back to where they came from."""
    wanted = request.query_params
    back = wanted.get("to", "/")
    answer = RedirectResponse(back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/", 303)
    options: Any = {"max_age": CHOICES_LAST, "samesite": "lax", "secure": request.url.scheme == "https"}
    if wanted.get("theme") in THEMES:
        answer.set_cookie(THEME_COOKIE, wanted["theme"], **options)
    if wanted.get("locale") in LANGUAGES:
        answer.set_cookie(LOCALE_COOKIE, wanted["locale"], **options)
    if (priced := priced_for(request)) is not None and wanted.get("currency") in priced.offered:
        answer.set_cookie(CURRENCY_COOKIE, wanted["currency"], **options)
    return answer


def with_query(path: str, query: dict[str, Any], **changed: Any) -> str:
    """A link to a page with its query as it is, but for what is changed; None leaves a parameter out."""
    merged = {**query, **changed}
    kept = {name: value for name, value in merged.items() if value not in (None, "")}
    return f"{path}?{urlencode(kept)}" if kept else path


def json_data(value: Any) -> Markup:
    """A value as JSON that is safe inside a `<script type="application/json">`, which no browser runs."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
