"""Tryton 8.0 LTS, its module `sale_opportunity` as it comes: opportunities with their whole past, over JSON-RPC."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from crm.connectors.base import OVERLAP, Batch, Fetch, Found, OutgoingScore, Row, in_batches
from crm.connectors.transport import Patience, Transport
from crm.connectors.tryton_history import Revision, read_revisions, read_told_revisions
from crm.connectors.tryton_rows import (
    ACTIVITY_FIELDS,
    DEAL_FIELDS,
    EMPLOYEE_FIELDS,
    LINKS,
    PARTY_FIELDS,
    STAGE_FIELD,
    STAGES,
    STOCK_FIELD,
    WHO_AND_WHEN,
    DealLife,
    account_row,
    activity_row,
    rates_to_base,
    stage_rows,
    user_row,
)
from crm.connectors.tryton_rpc import Record, TrytonRefused, TrytonSession, encoded_instant
from crm.errors import Detail, UsageError

DEAL, SCORE = "sale.opportunity", "sale.opportunity.score"
STAGE, ACTIVITY = "sale.opportunity.stage", "sale.opportunity.activity"
SCORE_TABLE = "score_table"

DEALS_AT_ONCE = 5000
LOOK_AHEAD = 1000
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
    secret: ClassVar[str] = "password"
    needs_secret: ClassVar[bool] = True
    url: str
    database: str
    user: str
    write_to: str = SCORE_TABLE
    timeout_seconds: float = 60.0
    tries: int = 6
    pause_seconds: float = 0.5

    def __post_init__(self) -> None:
        rules = {
            "write_to": (f"{SCORE_TABLE} or {STOCK_FIELD}", self.write_to in (SCORE_TABLE, STOCK_FIELD)),
            "timeout_seconds": ("above 0", self.timeout_seconds > 0),
            "tries": ("1 or more", self.tries >= 1),
            "pause_seconds": ("0 or more", self.pause_seconds >= 0),
        }
        broken = [
            Detail(name, str(getattr(self, name)), rule, "Correct it, or leave it out for the default.")
            for name, (rule, holds) in rules.items()
            if not holds
        ]
        if broken:
            raise UsageError("The settings of Tryton cannot be used.", *broken)

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
        notes: list[str] = []
        if session.has_model(ACTIVITY):
            models["activities"] = ACTIVITY
        else:
            notes.append("no activities: sale_opportunity keeps no calls, mails or meetings; our Tryton module does")
        tables = {name: session.call(f"model.{model}.search_count", []) for name, model in models.items()}
        oldest = session.call(f"model.{DEAL}.search_read", [], 0, 1, [["create_date", "ASC"]], ["create_date"])
        writes_to: str | None = self._place_for_scores()
        if writes_to is None:
            notes.append("scores cannot be written: install our Tryton module, or connect with write_to=" + STOCK_FIELD)
        return Found(
            system=f"Tryton {session.version()}",
            tables={**tables, "stages": len(STAGES) + len(self._own_stages() or {})},
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
        own_stages = self._own_stages()
        yield Batch("stages", stage_rows((own_stages or {}).values()))
        yield from self._rates(company["currency.code"])
        yield from self._accounts(start)
        yield from self._users()
        yield from self._deals(start, moment, own_stages)
        yield from self._activities(start, moment)

    def _own_stages(self) -> dict[int, str] | None:
        """The company's own stages by id, in their order; None without our module."""
        if not self._session.has_model(STAGE):
            return None
        pages = self._session.pages(STAGE, [], ["name", "sequence"], {"active_test": False})
        stages = [record for page in pages for record in page]
        # As Tryton shows them: those without a number last.
        stages.sort(key=lambda each: (each["sequence"] is None, each["sequence"] or 0, each["id"]))
        return {record["id"]: record["name"] for record in stages}

    def _activities(self, start: pd.Timestamp | None, moment: pd.Timestamp) -> Iterator[Batch]:
        """What has happened by the moment: entered, changed or come to pass since the start."""
        if not self._session.has_model(ACTIVITY):
            return
        past: list[object] = [["occurred_at", "<=", encoded_instant(moment)]]
        if start is not None:
            past.append(["OR", _written_since(start), [["occurred_at", ">=", encoded_instant(start)]]])
        for page in self._session.pages(ACTIVITY, past, ACTIVITY_FIELDS):
            yield Batch("activities", [activity_row(record) for record in page])

    def _rates(self, base: str) -> Iterator[Batch]:
        currencies = self._currencies()
        rates: dict[str, dict[str, float]] = {}
        for page in self._session.pages("currency.currency.rate", [], ["currency", "date", "rate"]):
            for record in page:
                rates.setdefault(currencies[record["currency"]], {})[record["date"]] = float(record["rate"])
        rows = list(rates_to_base(rates, base))
        if rows:
            yield Batch("exchange_rates", rows)

    def _currencies(self) -> dict[int, str]:
        pages = self._session.pages("currency.currency", [], ["code"], {"active_test": False})
        return {record["id"]: record["code"] for page in pages for record in page}

    def _accounts(self, start: pd.Timestamp | None) -> Iterator[Batch]:
        changed = _written_since(start)
        if start is not None:
            changed = ["OR", changed, _written_since(start, on="addresses.")]
        for parties in self._session.pages("party.party", changed, PARTY_FIELDS, {"active_test": False}):
            countries: dict[int, str] = {}
            of_these = [["country", "!=", None], ["party", "in", [party["id"] for party in parties]]]
            for page in self._session.pages("party.address", of_these, ["party", "country.code"]):
                for address in page:
                    countries.setdefault(address["party"], address["country."]["code"])
            yield Batch("accounts", [account_row(party, countries.get(party["id"])) for party in parties])

    def _users(self) -> Iterator[Batch]:
        for page in self._session.pages("company.employee", [], EMPLOYEE_FIELDS, {"active_test": False}):
            yield Batch("users", [user_row(employee) for employee in page])

    def _deals(
        self, start: pd.Timestamp | None, moment: pd.Timestamp, own_stages: Mapping[int, str] | None
    ) -> Iterator[Batch]:
        present = self._session.ids(DEAL, [])
        changed = present if start is None else self._session.ids(DEAL, _written_since(start))
        wanted = sorted({*changed, *self._gone(present, start)})
        currencies, employees = self._currencies(), self._employees()
        fields = [*self._fields.values(), *WHO_AND_WHEN, *([] if own_stages is None else [STAGE_FIELD])]
        for place in range(0, len(wanted), DEALS_AT_ONCE):
            some = wanted[place : place + DEALS_AT_ONCE]
            lives = self._lives(some, fields, moment)
            deals: list[Row] = []
            history: list[Row] = []
            for deal_id, revisions in lives.items():
                life = DealLife(str(deal_id), revisions, self._fields, currencies, employees, own_stages or {})
                deals.append(life.row())
                history.extend(life.changes(start))
            if deals:
                yield Batch("deals", deals)
            if history:
                yield Batch("deal_history", history)

    def _lives(self, ids: Sequence[int], fields: Sequence[str], moment: pd.Timestamp) -> dict[int, list[Revision]]:
        if self._session.has_model(SCORE):
            return read_told_revisions(self._session, DEAL, ids, fields, until=moment)
        return read_revisions(self._session, DEAL, ids, fields, links=LINKS, until=moment)

    def _gone(self, present: Sequence[int], start: pd.Timestamp | None) -> set[int]:
        """Ids that may have been deleted (since a moment): their revisions tell."""
        last = max(present, default=0)
        # The last ones may be gone too: go on as long as any of the next ids ever was.
        while later := self._session.call(f"model.{DEAL}.history_revisions", list(range(last + 1, last + LOOK_AHEAD))):
            last = max(number for _, number, _ in later)
        missing = set(range(1, last + 1)) - set(present)
        if start is None:
            return missing
        gone: set[int] = set()
        for some in in_batches(sorted(missing), LOOK_AHEAD):
            revisions = self._session.call(f"model.{DEAL}.history_revisions", some)
            gone |= {number for at, number, _ in revisions if at >= start}
        return gone

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
        for some in in_batches(scores, SCORES_AT_ONCE):
            failures |= self._write(some)
        return failures

    def withdraw(self, deal_ids: Sequence[str]) -> dict[str, str]:
        """Delete the scores of these deals; the stock field, which may not be empty, gets Tryton's default."""
        ids = [int(deal_id) for deal_id in deal_ids]
        model, column = (DEAL, "id") if self._write_to == STOCK_FIELD else (SCORE, "opportunity")
        for some in in_batches(ids, SCORES_AT_ONCE):
            found = self._session.ids(model, [[column, "in", some]])
            if found and self._write_to == STOCK_FIELD:
                self._session.call(
                    f"model.{DEAL}.write", found, self._session.call(f"model.{DEAL}.default_get", [STOCK_FIELD])
                )
            elif found:
                self._session.call(f"model.{SCORE}.delete", found)
        return {}

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


def _written_since(start: pd.Timestamp | None, *, on: str = "") -> list[object]:
    """The domain of records written since a moment, or of those (`on` their field) that are joined to some; empty: all.

    A record's write_date is empty until its first write.
    """
    if start is None:
        return []
    moment = encoded_instant(start)
    return ["OR", [[f"{on}create_date", ">=", moment]], [[f"{on}write_date", ">=", moment]]]


def _score_record(score: OutgoingScore) -> dict[str, object]:
    return {
        "opportunity": int(score.deal_id),
        "probability": score.win_probability,
        "low": score.win_probability_low,
        "high": score.win_probability_high,
        "change": score.score_change,
        "reasons": "\n".join(score.reasons),
        "as_of": score.as_of.isoformat(),
        "model": score.model_version,
    }
