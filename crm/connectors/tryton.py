"""Tryton 8.0 LTS, its module `sale_opportunity` as it comes: opportunities with their whole past, over JSON-RPC."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from crm.connectors.base import Batch, Fetch, Found, OutgoingScore, Row
from crm.connectors.transport import Patience, Transport
from crm.connectors.tryton_history import JUST_BEFORE, Revision, field_changes, read_revisions
from crm.connectors.tryton_rpc import Record, TrytonRefused, TrytonSession
from crm.errors import Detail, UsageError

DEAL, SCORE = "sale.opportunity", "sale.opportunity.score"
STOCK_FIELD = "conversion_probability"
SCORE_TABLE = "score_table"

STAGES = (
    # stage, is_closed, is_won: the states of sale.opportunity, in order.
    ("lead", "false", "false"),
    ("opportunity", "false", "false"),
    ("converted", "false", "false"),
    ("won", "true", "true"),
    ("lost", "true", "false"),
    ("cancelled", "true", "false"),
)
CLOSED = {stage for stage, is_closed, _ in STAGES if is_closed == "true"}

DEAL_FIELDS = {
    "stage": "state",
    "name": "description",
    "account_id": "party",
    "owner_id": "employee",
    "currency": "currency",
    "amount": "amount",
    "close_date": "end_date",
    "loss_reason": "lost_reason",
    "start_date": "start_date",
    STOCK_FIELD: STOCK_FIELD,
}
"""Columns of deals, and the fields of sale.opportunity they come from."""

WHO_AND_WHEN = ("create_date", "create_uid", "write_uid")

# A transaction may become visible later than the instant it stamped on its rows.
OVERLAP = pd.Timedelta(10, "min")
DEALS_AT_ONCE = 1000
SCORES_AT_ONCE = 200


@dataclass(frozen=True)
class TrytonSettings:
    """How to reach a Tryton database, and what to write there.

    Attributes
    ----------
    url : of the server, such as https://crm.example.com.
    database, user : the database, and who reads and writes there; the password is kept apart.
    write_to : `score_table`, the table that our Tryton module brings, or `conversion_probability`, the stock field.
    timeout_seconds, tries, pause_seconds : patience with the server.
    """

    name: ClassVar[str] = "tryton"
    url: str
    database: str
    user: str
    write_to: str = SCORE_TABLE
    timeout_seconds: float = 60.0
    tries: int = 6
    pause_seconds: float = 0.5

    def __post_init__(self) -> None:
        if self.write_to not in (SCORE_TABLE, STOCK_FIELD):
            detail = Detail(
                "write_to", self.write_to, f"{SCORE_TABLE} or {STOCK_FIELD}", "Leave it out for the score table."
            )
            raise UsageError(f"{self.write_to} is no place to write scores to.", detail)

    def open(self, password: str) -> "TrytonConnector":
        """A connection; nothing is sent yet."""
        transport = Transport(self.url, Patience(self.timeout_seconds, self.tries, self.pause_seconds))
        session = TrytonSession(transport, database=self.database, user=self.user, password=password)
        return TrytonConnector(session, write_to=self.write_to)


class TrytonConnector:
    """Reads opportunities, parties, employees and rates; writes scores to our module's table or the stock field."""

    def __init__(self, session: TrytonSession, *, write_to: str = SCORE_TABLE) -> None:
        self._session = session
        self._write_to = write_to
        # What we write into the stock field ourselves must not come back as if the seller had said it.
        self._fields = {ours: theirs for ours, theirs in DEAL_FIELDS.items() if theirs != write_to}

    @property
    def api_calls(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self._session.transport.requests

    def close(self) -> None:
        """End the connection."""
        self._session.transport.close()

    def survey(self) -> Found:
        """Count what is there, and look for a place for scores."""
        session = self._session
        models = {"deals": DEAL, "accounts": "party.party", "users": "company.employee"}
        models["exchange_rates"] = "currency.currency.rate"
        tables = {name: session.call(f"model.{model}.search_count", []) for name, model in models.items()}
        oldest = session.call(f"model.{DEAL}.search_read", [], 0, 1, [["create_date", "ASC"]], ["create_date"])
        notes = ["no activities: sale_opportunity keeps no calls, mails or meetings"]
        writes_to: str | None = self._place_for_scores()
        if writes_to is None:
            notes.append("scores cannot be written: install our Tryton module, or connect with write_to=" + STOCK_FIELD)
        return Found(
            system=f"Tryton {session.version()}",
            tables={**tables, "stages": len(STAGES)},
            fields=tuple(self._fields),
            history_since=oldest[0]["create_date"] if oldest else None,
            writes_to=writes_to,
            notes=tuple(notes),
        )

    def _place_for_scores(self) -> str | None:
        if self._write_to == STOCK_FIELD:
            return f"{DEAL}.{STOCK_FIELD}"
        return SCORE if self._session.has_model(SCORE) else None

    # -- fetching ----------------------------------------------------------------------------------------------------

    def fetch(self, since: str | None) -> Fetch:
        """Everything, or what changed since the cursor; deals as they stood at one moment of the server's clock."""
        company = self._company()
        moment = self._moment()
        calendar: dict[str, object] = {"base_currency": company["currency.code"]}
        if company["timezone"]:
            calendar["time_zone"] = company["timezone"]
        start = None if since is None else pd.Timestamp(since) - OVERLAP
        return Fetch(moment, moment.isoformat(), calendar, self._batches(start, moment, company))

    def _company(self) -> Record:
        """The user's company, whose currency is the base; with its id, currency.code and timezone."""
        company_id = self._session.preferences.get("company")
        fields = ["timezone", "currency.code"]
        chosen = [["id", "=", company_id]] if company_id else []
        companies = self._session.call("model.company.company.search_read", chosen, 0, 2, None, fields)
        if len(companies) != 1:
            rule = "the user has a company, whose currency is the base currency"
            detail = Detail("user", None, rule, "Choose a company in the user's preferences in Tryton.")
            raise UsageError("Tryton does not say for which company this user works.", detail)
        return {**companies[0], "currency.code": companies[0]["currency."]["code"]}

    def _moment(self) -> pd.Timestamp:
        """Now by the server's clock: what its answers are dated, or the last write where that is in the same second."""
        stamps = []
        for field in ("create_date", "write_date"):
            newest = [[field, "DESC NULLS LAST"], ["id", "DESC"]]
            page = self._session.call(f"model.{DEAL}.search_read", [[field, "!=", None]], 0, 1, newest, [field])
            stamps += [record[field] for record in page]
        now = self._session.server_time or pd.Timestamp.now("UTC").as_unit("us")
        same_second = [stamp for stamp in stamps if now <= stamp < now + pd.Timedelta(2, "s")]
        return max([now, *same_second])

    def _batches(self, start: pd.Timestamp | None, moment: pd.Timestamp, company: Record) -> Iterator[Batch]:
        yield Batch("stages", [_stage_row(place, *stage) for place, stage in enumerate(STAGES, start=1)])
        yield from self._rates(company["currency.code"])
        yield from self._accounts(start)
        yield from self._users()
        yield from self._deals(start, moment)

    def _rates(self, base: str) -> Iterator[Batch]:
        currencies = self._currencies()
        rates: dict[str, dict[str, float]] = {}
        for page in self._session.pages("currency.currency.rate", [], ["currency", "date", "rate"]):
            for record in page:
                rates.setdefault(currencies[record["currency"]], {})[record["date"]] = float(record["rate"])
        rows = list(_rates_to_base(rates, base))
        if rows:
            yield Batch("exchange_rates", rows)

    def _currencies(self) -> dict[int, str]:
        pages = self._session.pages("currency.currency", [], ["code"], {"active_test": False})
        return {record["id"]: record["code"] for page in pages for record in page}

    def _accounts(self, start: pd.Timestamp | None) -> Iterator[Batch]:
        countries: dict[int, str] = {}
        for page in self._session.pages("party.address", [["country", "!=", None]], ["party", "country.code"]):
            for record in page:
                countries.setdefault(record["party"], record["country."]["code"])
        fields = ["name", "create_date"]
        for page in self._session.pages("party.party", _changed_since(start), fields, {"active_test": False}):
            yield Batch(
                "accounts",
                [
                    {
                        "account_id": str(record["id"]),
                        "name": record["name"],
                        "created_at": record["create_date"].isoformat(),
                        "country": countries.get(record["id"]),
                    }
                    for record in page
                ],
            )

    def _users(self) -> Iterator[Batch]:
        fields = ["party.name", "party.email", "supervisor", "start_date", "end_date"]
        for page in self._session.pages("company.employee", [], fields, {"active_test": False}):
            yield Batch(
                "users",
                [
                    {
                        "user_id": str(record["id"]),
                        "name": record["party."]["name"],
                        "email": record["party."]["email"] or None,
                        "manager_id": _text(record["supervisor"]),
                        "hired_at": record["start_date"],
                        "left_at": record["end_date"],
                    }
                    for record in page
                ],
            )

    def _deals(self, start: pd.Timestamp | None, moment: pd.Timestamp) -> Iterator[Batch]:
        present = self._session.ids(DEAL, [])
        changed = present if start is None else self._session.ids(DEAL, _changed_since(start))
        wanted = sorted({*changed, *self._gone(present, start)})
        currencies, employees = self._currencies(), self._employees()
        fields = [*self._fields.values(), *WHO_AND_WHEN]
        for place in range(0, len(wanted), DEALS_AT_ONCE):
            some = wanted[place : place + DEALS_AT_ONCE]
            lives = read_revisions(self._session, DEAL, some, fields, until=moment)
            deals: list[Row] = []
            history: list[Row] = []
            for deal_id, revisions in lives.items():
                life = DealLife(str(deal_id), revisions, self._fields, currencies, employees)
                deals.append(life.row())
                history.extend(life.changes(start))
            if deals:
                yield Batch("deals", deals)
            if history:
                yield Batch("deal_history", history)

    def _gone(self, present: Sequence[int], start: pd.Timestamp | None) -> set[int]:
        """Ids that may have been deleted (since a moment): their revisions tell."""
        known: set[int] = set()
        if start is not None:
            known = set(self._session.ids(DEAL, [], {"_datetime": start}))
        first = max(known, default=0) + 1
        return (known | set(range(first, max(present, default=0)))) - set(present)

    def _employees(self) -> dict[int, str]:
        """The employee behind each login, as far as the user may see them."""
        try:
            pages = list(self._session.pages("res.user", [], ["employee"], {"active_test": False}))
        except TrytonRefused:
            return {}
        return {user["id"]: str(user["employee"]) for page in pages for user in page if user["employee"]}

    # -- pushing -----------------------------------------------------------------------------------------------------

    def push(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """Write scores to our module's table, or, if so configured, to the stock field.

        Raises
        ------
        UsageError
            If there is no place for them.
        """
        if self._place_for_scores() is None:
            rule = "the CRM has our Tryton module, or write_to names the stock field"
            step = f"Install the module (docs/crm.md), or: dealcast connect tryton … write_to={STOCK_FIELD}"
            raise UsageError("Tryton has no table for scores.", Detail("write_to", SCORE_TABLE, rule, step))
        failures: dict[str, str] = {}
        for place in range(0, len(scores), SCORES_AT_ONCE):
            failures |= self._write(scores[place : place + SCORES_AT_ONCE])
        return failures

    def _write(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """All in one call; if Tryton refuses, each half alone, down to the ones it refuses."""
        try:
            if self._write_to == STOCK_FIELD:
                self._write_stock_field(scores)
            else:
                self._session.call(f"model.{SCORE}.record", [_score_record(score) for score in scores])
        except TrytonRefused as refused:
            if len(scores) == 1:
                return {scores[0].deal_id: refused.details[0].rule}
            half = len(scores) // 2
            return self._write(scores[:half]) | self._write(scores[half:])
        return {}

    def _write_stock_field(self, scores: Sequence[OutgoingScore]) -> None:
        pairs: list[object] = []
        for score in scores:
            pairs += [[int(score.deal_id)], {STOCK_FIELD: round(score.win_probability, 4)}]
        self._session.call(f"model.{DEAL}.write", *pairs)


@dataclass(frozen=True)
class DealLife:
    """One opportunity through its revisions, as rows of the contract."""

    deal_id: str
    revisions: Sequence[Revision]
    fields: Mapping[str, str]
    currencies: Mapping[int, str]
    employees: Mapping[int, str]

    def row(self) -> Row:
        """The deal as it stands, or stood last."""
        record = next(one.record for one in reversed(self.revisions) if one.record)
        deleted = self.revisions[-1] if self.revisions[-1].record is None else None
        return {
            "deal_id": self.deal_id,
            "created_at": record["create_date"].isoformat(),
            **self.values(record),
            "closed_at": self._closed_at(),
            "deleted_at": deleted.at.isoformat() if deleted else None,
        }

    def values(self, record: Record) -> dict[str, str | None]:
        """The fields of a state, as text."""
        values = {ours: _text(record[theirs]) for ours, theirs in self.fields.items()}
        return {**values, "currency": self.currencies.get(record["currency"])}

    def changes(self, start: pd.Timestamp | None) -> Iterator[Row]:
        """A row for every change of a field from a moment on (None: all); its first value has no old one."""
        before: dict[str, str | None] | None = None
        for revision in self.revisions:
            record = revision.record
            if record is None:
                continue
            after = self.values(record)
            is_birth = revision.at == record["create_date"]
            told = start is None or revision.at >= start
            for field, old, new in field_changes(before, after, is_birth=is_birth) if told else ():
                yield {
                    "deal_id": self.deal_id,
                    "changed_at": revision.at.isoformat(),
                    "field": field,
                    "old_value": old,
                    "new_value": new,
                    "changed_by": self.employees.get(record["write_uid"] or record["create_uid"]),
                }
            before = after

    def _closed_at(self) -> str | None:
        """Since when it has been closed without a break; None if it is open."""
        since: pd.Timestamp | None = None
        for revision in self.revisions:
            closed = revision.record is not None and revision.record["state"] in CLOSED
            if revision.record is not None and not closed:
                since = None
            elif closed and since is None:
                since = revision.at
        return since.isoformat() if since is not None else None


def _changed_since(start: pd.Timestamp | None) -> list[object]:
    if start is None:
        return []
    at = (start - JUST_BEFORE).tz_convert("UTC")
    parts = {name: getattr(at, name) for name in ("year", "month", "day", "hour", "minute", "second", "microsecond")}
    moment = {"__class__": "datetime", **parts}
    # write_date is empty until the first write.
    return ["OR", ["create_date", ">", moment], ["write_date", ">", moment]]


def _stage_row(place: int, stage: str, is_closed: str, is_won: str) -> Row:
    return {"stage": stage, "sort_order": str(place), "is_closed": is_closed, "is_won": is_won}


def _rates_to_base(rates: Mapping[str, Mapping[str, float]], base: str) -> Iterator[Row]:
    """What one unit is worth in base currency, from each day on which either rate changed; Tryton keeps the inverse."""
    for currency, dated in sorted(rates.items()):
        if currency == base:
            continue
        for day in sorted({*dated, *rates.get(base, {})}):
            own, bases = (_rate_on(table, day) for table in (dated, rates.get(base, {})))
            if own and bases:
                yield {"currency": currency, "valid_from": day, "rate_to_base": repr(bases / own)}


def _rate_on(dated: Mapping[str, float], day: str) -> float | None:
    known = [since for since in dated if since <= day]
    return dated[max(known)] if known else None


def _text(value: object) -> str | None:
    return None if value is None or value == "" else str(value)


def _score_record(score: OutgoingScore) -> dict[str, object]:
    return {
        "opportunity": int(score.deal_id),
        "probability": score.win_probability,
        "change": score.score_change,
        "reasons": "\n".join(score.reasons),
        "as_of": score.as_of.isoformat(),
        "model": score.model_version,
    }
