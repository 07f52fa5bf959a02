"""A rep's or manager's own page: my number, my deals, what to look at, my call, and where I disagree."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

import pandas as pd
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.responses import RedirectResponse, Response

from crm.calendar import Period
from crm.errors import Detail, UsageError
from crm.plain import to_plain
from ledger.ledger import Ledger
from models.disagreements import disagreements
from serving.blind import has_to_call
from serving.callers import Caller
from serving.errors import nobody_sees
from serving.given import Now, Reader, Speaker, wall_clock
from serving.pages.frame import say_to, show
from serving.pages.words import later
from serving.said import answer_calls, answer_overrides, nodes_told, scores_told
from serving.schema import CallsRequest, OverridesRequest
from serving.state import State

DEALS_SHOWN = 25
LOOKED_AT = 6
FELL_POINTS = -10.0
SOON_DAYS = 14
COMMITTED = ("commit", "Commit")
WHY = {
    "passed": later("its close date has passed"),
    "doubted": later("you commit to it, the model does not"),
    "fell": later("its chance fell this week"),
    "soon": later("it is due within two weeks"),
}


@dataclass(frozen=True)
class Mine:
    """One open deal of the viewer's: its row of the CRM, its Score, and why it deserves a look (None: it does not)."""

    deal_id: str
    name: str
    stage: str | None
    close_date: Any
    score: dict[str, Any]
    brings: float
    why: str | None


def my_deals(state: State, caller: Caller) -> list[Mine]:
    """The open deals of a caller (of who has none, those of the people below), what brings most to the period first."""
    user = caller.user_id
    own = [deal_id for deal_id in state.score_of if state.owner_of.get(deal_id) == user]
    ids = own or [deal_id for deal_id in state.score_of if state.may_see_deal(caller.viewer, deal_id)]
    deals = state.tables.get("deals")
    rows = deals[deals["deal_id"].isin(ids)].set_index("deal_id").to_dict("index")
    today = state.tables.calendar.local_day(state.as_of)
    found = []
    for deal_id in ids:
        score, row = state.score_for(caller.viewer, deal_id), rows.get(deal_id, {})
        if score is None:
            continue
        name, stage, close_date = (to_plain(row.get(field)) for field in ("name", "stage", "close_date"))
        brings = float(score["period_win_probability"]) * float(score["expected_amount"])
        why = why_look(row, score, close_date, today)
        found.append(Mine(deal_id, str(name or deal_id), stage, close_date, score, brings, why))
    return sorted(found, key=lambda mine: (-mine.brings, mine.deal_id))


def why_look(row: dict[str, Any], score: dict[str, Any], close_date: str | None, today: Any) -> str | None:
    """Why a deal deserves a look this week, the most pressing reason; None if it does not."""
    change = score["score_change"]
    if close_date is not None and pd.Timestamp(close_date).date() < today:
        return "passed"
    if row.get("forecast_category") in COMMITTED and score["period_win_probability"] < 0.5:
        return "doubted"
    if change is not None and change <= FELL_POINTS:
        return "fell"
    if close_date is not None and (pd.Timestamp(close_date).date() - today).days <= SOON_DAYS:
        return "soon"
    return None


def worth_a_look(deals: list[Mine]) -> list[Mine]:
    """The deals to look at this week, the largest first."""
    return sorted((mine for mine in deals if mine.why), key=lambda mine: -mine.score["expected_amount"])[:LOOKED_AT]


def my_number(state: State, caller: Caller, period: Period) -> dict[str, Any] | None:
    """The forecast row of the caller: of the whole subtree for who manages somebody, else of the own deals."""
    nodes = state.forecast(period)
    for node_type in ("manager", "rep"):
        mine = nodes[(nodes["node_type"] == node_type) & (nodes["node_id"] == caller.user_id)]
        if len(mine):
            return {str(name): value for name, value in mine.iloc[0].items()}
    return None


def my_calls(ledger: Ledger, caller: Caller, period: Period) -> list[dict[str, Any]]:
    """What the caller called for a period through the service, the latest first."""
    calls = ledger.calls()
    is_of_period = pd.to_datetime(calls["period_start"]) == pd.Timestamp(period.start)
    mine = calls[(calls["user_id"] == caller.user_id) & is_of_period]
    return [{str(k): v for k, v in row.items()} for row in mine.iloc[::-1].head(5).to_dict("records")]


def as_called_last(number: dict[str, Any], calls: list[dict[str, Any]], state: State) -> dict[str, Any]:
    """A forecast row with the commit said last, which the data have only after their next event.

    Parameters
    ----------
    calls : as of `my_calls`.
    """
    last = next((call for call in calls if call["category"] == "commit"), None)
    known_at = number["call_submitted_at"]
    if last is None or (pd.notna(known_at) and last["submitted_at"] < known_at):
        return number
    commit = in_base(last["amount"], last["currency"], state)
    return {**number, "call_commit": commit, "call_submitted_at": last["submitted_at"]}


def show_me(caller: Caller, state: State, request: Request, *, said: str = "", status: int = 200) -> Response:
    """The page, with what was just said."""
    if caller.user_id is None:
        return show(request, "me_nobody.html")
    ledger: Ledger = request.app.state.ledger
    period = state.tables.calendar.period_of(state.as_of)
    number, deals, calls = my_number(state, caller, period), my_deals(state, caller), my_calls(ledger, caller, period)
    judged = disagreements(state.tables, state.history, ledger, state.as_of, user_id=caller.user_id)
    if number is not None:
        number = as_called_last(number, calls, state)
    hidden = has_to_call(ledger, caller, state, period, blind_calls=request.app.state.blind_calls)
    if number is not None and not hidden:
        request.app.state.readings.told(caller, nodes_told(period, pd.DataFrame([number])))
    request.app.state.readings.told(caller, scores_told([mine.score for mine in deals[:DEALS_SHOWN]]))
    return show(
        request,
        "me.html",
        status=status,
        said=said,
        period=period,
        number=number,
        hidden=hidden,
        deals=deals[:DEALS_SHOWN],
        others=max(len(deals) - DEALS_SHOWN, 0),
        look_at=worth_a_look(deals),
        why=WHY,
        calls=calls,
        may_call=caller.allows("calls"),
        disagreed=int(judged["is_closer"].notna().sum()),
        closer=int(judged["is_closer"].fillna(False).sum()),
        waiting=int(judged["is_closer"].isna().sum()),
    )


def add_me(api: FastAPI) -> None:
    """The page and its two forms."""

    @api.get("/me", include_in_schema=False)
    def me(caller: Reader, state: Now, request: Request) -> Response:
        said = {"call": later("Your call is kept."), "disagreed": later("It is kept that you disagree.")}
        done = said.get(request.query_params.get("done", ""), "")
        return show_me(caller, state, request, said=say_to(request).gettext(done) if done else "")

    @api.post("/me/call", include_in_schema=False)
    async def call(caller: Speaker, state: Now, request: Request) -> Response:
        form = await form_of(request)
        now = wall_clock()
        said = {name: form.get(name, "") for name in ("period_start", "category")}
        currency = form.get("currency")
        currency = None if currency in ("", state.rates.base_currency) else currency
        row = {**said, "amount": amount_of(form), "currency": currency, "note": form.get("note") or None}
        if now >= state.tables.calendar.period_of(state.as_of).end_at:
            # The data stand still, as an example's do: what is called for their period is called at their moment.
            row["submitted_at"] = to_plain(state.as_of)
        asked = valid(CallsRequest, {"calls": [row]})
        ledger = request.app.state.ledger
        request.app.state.readings.write()
        await run_sync(lambda: answer_calls(asked, caller, state, ledger, now=now))
        request.app.state.worker.wake()
        return RedirectResponse("/me?done=call", 303)

    @api.post("/me/disagree", include_in_schema=False)
    async def disagree(caller: Speaker, state: Now, request: Request) -> Response:
        form = await form_of(request)
        if not form.get("note", "").strip():
            detail = Detail("note", None, "a reason, in words", "say why you disagree")
            raise UsageError("A disagreement needs its reason.", detail)
        if not state.may_see_deal(caller.viewer, form.get("deal_id", "")):
            raise nobody_sees("deal", form.get("deal_id", ""))
        value = in_base(amount_of(form), form.get("currency"), state)
        row = {"deal_id": form["deal_id"], "value": value, "note": form["note"]}
        asked = valid(OverridesRequest, {"overrides": [row]})
        ledger = request.app.state.ledger
        request.app.state.readings.write()
        await run_sync(lambda: answer_overrides(asked, caller, state, ledger, now=wall_clock()))
        back = f"/deals/{quote(form['deal_id'], safe='')}" if form.get("back") == "deal" else "/me"
        return RedirectResponse(f"{back}?done=disagreed", 303)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form; of one given twice the first."""
    return {name: values[0] for name, values in parse_qs((await request.body()).decode("utf-8", "replace")).items()}


def amount_of(form: dict[str, str]) -> float:
    """The amount of a form: digits, with what people put between them.

    Raises
    ------
    UsageError
        It is no number.
    """
    text = form.get("amount", "").replace(" ", "").replace("\u202f", "").replace("\xa0", "").replace("'", "")
    try:
        return float(text)
    except ValueError:
        detail = Detail("amount", text[:40], "a number, such as 250000", "correct it")
        raise UsageError("The amount is no number.", detail) from None


def in_base(amount: float, currency: str | None, state: State) -> float:
    """An amount of a form in base currency, at the rate at which the page told its own.

    Raises
    ------
    UsageError
        No rate of the currency is known.
    """
    rate = state.rates.rate_of(currency or state.rates.base_currency, state.as_of)
    if rate is None:
        rule = "the base currency, or one of exchange_rates with a rate by now"
        raise UsageError("The currency has no rate.", Detail("currency", str(currency)[:40], rule, "choose another"))
    return amount * rate.to_base


def valid(kind: Any, body: dict[str, Any]) -> Any:
    """A form's content as the API takes it.

    Raises
    ------
    UsageError
        It breaks the contract.
    """
    try:
        return kind.model_validate(body)
    except ValidationError as refused:
        details = [
            Detail(str(error["loc"][-1]), str(error["input"])[:40], error["msg"], "correct it")
            for error in refused.errors()
        ]
        raise UsageError("The form is not as it should be.", *details) from None
