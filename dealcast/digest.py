"""The weekly digest as files: an HTML e-mail and a message for Slack."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from crm.errors import Detail, UsageError
from crm.money import Rate
from dealcast.session import Progress, Session
from serving.pages.digest import Digest, number_in_words, write_digest
from serving.pages.words import LANGUAGES, Say, locale_of
from serving.state import State, load_state


def digest(
    session: Session,
    *,
    user_id: str | None,
    out: Path | None,
    locale: str,
    currency: str | None,
    address: str | None,
    progress: Progress,
) -> dict[str, Any]:
    """The `digest` document, and the two files in the folder.

    Parameters
    ----------
    user_id : with whose eyes it is written; None is the whole company's.
    out : default: `digest/` in the workspace.
    currency : in which money is told, at the rate of the data's moment; by default the base currency.
    address : of the service, for links; by default the one of the settings.

    Raises
    ------
    UsageError : no such language, no rate of the currency, or the folder cannot be made.
    NotFound : there is no such user.
    """
    if locale.replace("_", "-").split("-")[0] not in LANGUAGES:
        detail = Detail("--locale", locale, f"one of {', '.join(LANGUAGES)}", "Name a language of the pages.")
        raise UsageError(f"The digest is not written in {locale}.", detail)
    folder = out or session.workspace / "digest"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder.", Detail("--out", str(folder), "a folder", "Name a folder."))
    progress("read and score", 0.0)
    state = load_state(session.workspace, session.ledger, holdout=session.settings.access.holdout)
    progress("write", 0.8)
    rate = rate_for(state, currency)
    say = Say(locale_of(locale, ""), rate.currency, str(state.tables.calendar.time_zone), rate.to_base)
    at = (address or f"http://{session.settings.host}:{session.settings.port}").rstrip("/")
    written = write_digest(state, session.ledger, user_id=user_id, say=say, now=session.now, address=at)
    files = write_files(folder, written, user_id)
    number = written.values["number"]
    kept = ("node_type", "node_id", "mean", "p10", "p50", "p90", "won_to_date", "moved")
    return {
        "as_of": state.as_of,
        "user": user_id,
        "number": number and {name: number[name] for name in kept},
        "lists": {
            view: {name: found[name] for name in ("deals", "worth")} for view, found in written.values["lists"].items()
        },
        "ended": {name: value for name, value in written.values["ended"].items() if name != "rows"},
        "files": files,
        "summary": number_in_words(say, number),
    }


def rate_for(state: State, currency: str | None) -> Rate:
    """The rate of a currency at the data's moment.

    Raises
    ------
    UsageError : none is known.
    """
    rate = state.rates.rate_of(currency or state.rates.base_currency, state.as_of)
    if rate is None:
        rule = f"one of {', '.join(state.rates.currencies)}, with a rate in exchange_rates by now"
        raise UsageError(f"No rate of {currency} is known.", Detail("--currency", currency, rule, "Import its rates."))
    return rate


def write_files(folder: Path, written: Digest, user_id: str | None) -> list[Path]:
    """The letter and the message; those of a user are named by the user."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "digest" if user_id is None else "digest-" + "".join(c if c.isalnum() else "_" for c in user_id)
    files = [folder / f"{name}.html", folder / f"{name}.slack.json"]
    files[0].write_text(written.html, "utf-8")
    files[1].write_text(json.dumps(written.slack, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return files


def show_digest(console: Console, document: dict[str, Any]) -> None:
    """Where it is, and the number."""
    console.print(escape(document["summary"]))
    for path in document["files"]:
        console.print(escape(str(path)), soft_wrap=True)
