"""The frame around every page: the head, the navigation, the viewer's language and theme. Only here is Jinja2.

A page is a template in `templates/` that extends `frame.html`, and a route that ends with `show(request, "x.html", …)`.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from serving.cookies import csrf_token_of
from serving.pages.assets import address, answer_compressed, libraries_missing
from serving.pages.words import LANGUAGES, Say, later, locale_of, translations

TEMPLATES = Path(__file__).with_name("templates")
THEME_COOKIE, LOCALE_COOKIE = "dealcast_theme", "dealcast_locale"
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
    found.globals.update(asset=address, themes=THEMES, languages=tuple(LANGUAGES), with_query=with_query)
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
        "here": request.url.path,
        "query": dict(request.query_params),
        "navigation": [link for link in NAVIGATION if caller is not None and (is_user or not link.only_users)],
        "theme": theme_of(request),
        "csrf_token": csrf_token_of(request),
        "libraries": not libraries_missing(),
        "moment": moment_shown(request),
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
    state = state_shown(request)
    if state is None:
        return Say(locale)
    return Say(locale, state.tables.calendar.base_currency, str(state.tables.calendar.time_zone))


def state_shown(request: Request) -> Any:
    """The state that the service answers from, None before the first is loaded."""
    follower = getattr(request.app.state, "follower", None)
    return None if follower is None else follower.state


def moment_shown(request: Request) -> Any:
    """The data's moment, for the foot of a page; None before the first data are loaded."""
    state = state_shown(request)
    return None if state is None else state.as_of


def theme_of(request: Request) -> str:
    """The theme that the viewer chose."""
    wanted = request.cookies.get(THEME_COOKIE, "auto")
    return wanted if wanted in THEMES else "auto"


def choose(request: Request) -> Response:
    """Keep the theme and language that a viewer chose in a cookie, and go back to where they came from."""
    wanted = request.query_params
    back = wanted.get("to", "/")
    answer = RedirectResponse(back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/", 303)
    options: Any = {"max_age": CHOICES_LAST, "samesite": "lax", "secure": request.url.scheme == "https"}
    if wanted.get("theme") in THEMES:
        answer.set_cookie(THEME_COOKIE, wanted["theme"], **options)
    if wanted.get("locale") in LANGUAGES:
        answer.set_cookie(LOCALE_COOKIE, wanted["locale"], **options)
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
