"""The independent proof: at any past moment our rebuilt state is what Tryton itself reads as of then."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from showroom import until
from tryton_company import STAGES, decimal, instant
from tryton_here import PASSWORD

from crm.connectors.tryton import TrytonSettings
from crm.connectors.tryton_history import read_revisions, read_told_revisions
from crm.connectors.tryton_rows import DEAL_FIELDS, LINKS, STAGE_FIELD, WHO_AND_WHEN
from crm.history import build_history, values_at
from crm.store import read_tables
from dealcast.cli import answer

pytestmark = pytest.mark.slow

FIELDS = {
    "stage": "state",
    "name": "description",
    "account_id": "party",
    "owner_id": "employee",
    "currency": "currency.code",
    "amount": "amount",
    "close_date": "end_date",
    "loss_reason": "lost_reason",
    "start_date": "start_date",
    "conversion_probability": "conversion_probability",
}


def connect_and_sync(workspace: Path, url: str) -> None:
    where = ["--workspace", str(workspace)]
    assert answer([*where, "connect", "tryton", f"url={url}", "database=crm", "user=admin"]) == 0
    assert answer([*where, "sync"]) == 0


def value_told(record: dict, field: str) -> object:
    """A value as Tryton's own answer has it, in our type."""
    if field == "currency.code":
        return record["currency."]["code"]
    value = record[field]
    if isinstance(value, dict):
        kind = value["__class__"]
        return (
            float(value["decimal"]) if kind == "Decimal" else pd.Timestamp(value["year"], value["month"], value["day"])
        )
    return str(value) if field in ("party", "employee") and value is not None else value or None


def as_told(crm, moment: datetime, *own_stage: str) -> dict[str, dict[str, object]]:
    """Every opportunity as Tryton reads it as of a moment, with our module's `stage.name` if that is asked for.

    The company's own stage counts while the opportunity is open, a reason of loss while it is lost.
    """
    fields = [*FIELDS.values(), *own_stage]
    told = {}
    for record in crm.rows("sale.opportunity", fields, _datetime=instant(moment)):
        values = {ours: value_told(record, theirs) for ours, theirs in FIELDS.items()}
        if record.get("stage.") and record["state"] in ("lead", "opportunity", "converted"):
            values["stage"] = record["stage."]["name"]
        if record["state"] != "lost":
            values["loss_reason"] = None
        told[str(record["id"])] = values
    return told


class Rebuilt:
    """The facts of a workspace, ready to be asked for any moment."""

    def __init__(self, workspace: Path) -> None:
        tables = read_tables(workspace)
        self.deals, self.history = tables.get("deals"), build_history(tables)

    def at(self, moment: datetime) -> dict[str, dict[str, object]]:
        """Every deal that existed at a moment."""
        at = pd.Timestamp(moment).as_unit("us")
        exists = (self.deals["created_at"] <= at) & ~(self.deals["deleted_at"] <= at)
        spine = pd.DataFrame({"deal_id": self.deals.loc[exists, "deal_id"], "as_of": at}).reset_index(drop=True)
        values = values_at(self.history, spine, FIELDS).astype(object)
        return dict(zip(spine["deal_id"], values.where(values.notna(), None).to_dict("records"), strict=True))


def moments_to_ask(company, *, count: int) -> list[datetime]:
    """Random moments of the two years, and instants of writes with the microsecond before them."""
    chance = random.Random(50)
    stamps = sorted(stamp for life in company.lives for stamp in life.stamps)
    span = (stamps[-1] - stamps[0]).total_seconds()
    anywhere = [stamps[0] + timedelta(seconds=chance.uniform(0, span)) for _ in range(count)]
    exact = chance.sample(stamps, count // 5)
    return [*anywhere, *exact, *(stamp - timedelta(microseconds=1) for stamp in exact)]


def test_the_rebuilt_past_is_trytons_own_at_fifty_random_moments(small_crm, small_company, tmp_path):
    some, *_ = small_crm.call("sale.opportunity.search", [["state", "=", "lead"]], 0, None, None, small_crm.context)
    last = small_crm.call("sale.opportunity.copy", [some], {}, small_crm.context)
    there = datetime.now(UTC)
    small_crm.call("sale.opportunity.cancel", last, small_crm.context)
    small_crm.call("sale.opportunity.delete", last, small_crm.context)
    until(lambda: datetime.now(UTC).replace(microsecond=0) > there)  # a sync reads up to a whole second
    connect_and_sync(tmp_path / "ws", small_crm.url)
    rebuilt = Rebuilt(tmp_path / "ws")
    assert str(last[0]) in rebuilt.at(there)  # although no id is beyond it
    for moment in [*moments_to_ask(small_company, count=50), there]:
        told = as_told(small_crm, moment)
        assert rebuilt.at(moment) == told, moment


def test_with_our_module_the_rebuilt_past_has_the_companys_own_stages(scored_small_crm, scored_small_company, tmp_path):
    connect_and_sync(tmp_path / "ws", scored_small_crm.url)
    rebuilt, seen = Rebuilt(tmp_path / "ws"), set()
    for moment in moments_to_ask(scored_small_company, count=50):
        told = as_told(scored_small_crm, moment, "stage.name")
        assert rebuilt.at(moment) == told, moment
        seen |= {values["stage"] for values in told.values()}
    assert seen >= {"lead", *STAGES, "won", "lost"}


def test_our_module_tells_the_same_past_at_once_as_tryton_does_one_by_one(scored_small_crm, scored_small_company):
    crm, lives = scored_small_crm, scored_small_company.lives
    connector = TrytonSettings(url=crm.url, database="crm", user="admin").open(PASSWORD)
    ids, now = [life.id for life in lives], pd.Timestamp.now("UTC").as_unit("us")
    fields = [*DEAL_FIELDS.values(), *WHO_AND_WHEN, STAGE_FIELD]
    session = connector._session
    told = read_told_revisions(session, "sale.opportunity", ids, fields, until=now)
    read = read_revisions(session, "sale.opportunity", ids, fields, links=LINKS, until=now)
    connector.close()
    assert any(life.is_deleted for life in lives) and told.keys() == read.keys()
    for number, revisions in read.items():
        plain = [(one.at, one.record and {name: one.record[name] for name in fields}) for one in revisions]
        assert [(one.at, one.record and {name: one.record[name] for name in fields}) for one in told[number]] == plain


def test_the_past_of_opportunities_that_a_user_may_not_see_is_not_told(scored_small_crm):
    crm = scored_small_crm
    party, *_ = crm.call("party.party.search", [["name", "=", "Customer 1"]], 0, None, None, crm.context)
    (euro,) = crm.call("currency.currency.search", [["code", "=", "EUR"]], 0, None, None, crm.context)
    (other,) = crm.call("company.company.create", [{"party": party, "currency": euro}], crm.context)
    (group,) = crm.rows("res.group", ["name"], [["name", "=", "Sales"]])
    login = {"name": "Stranger", "login": "stranger", "password": PASSWORD, "groups": [["add", [group["id"]]]]}
    crm.call("res.user.create", [{**login, "companies": [["add", [other]]], "company": other}], {})
    connector = TrytonSettings(url=crm.url, database="crm", user="stranger").open(PASSWORD)
    assert connector._session.ids("sale.opportunity", []) == []
    assert connector._session.call("model.sale.opportunity.past", list(range(1, 61)), ["state"]) == "[]"
    connector.close()


def test_the_past_stays_trytons_own_when_changes_come_in_by_later_syncs(small_crm, small_company, tmp_path):
    workspace, call, context = tmp_path / "ws", small_crm.call, small_crm.context
    connect_and_sync(workspace, small_crm.url)
    still_open = small_crm.rows("sale.opportunity", ["state"], [["state", "in", ["lead", "opportunity"]]])
    leads_first = sorted(still_open, key=lambda each: each["state"])
    moved, changed, ended, deleted = [each["id"] for each in leads_first][:4]
    before = datetime.now(UTC)
    call("sale.opportunity.opportunity", [moved], context)
    call("sale.opportunity.write", [changed], {"amount": decimal(1234.56), "description": None}, context)
    call("sale.opportunity.lost", [ended], context)
    call("sale.opportunity.cancel", [deleted], context)
    between = datetime.now(UTC)
    assert answer(["--workspace", str(workspace), "sync"]) == 0
    call("sale.opportunity.delete", [deleted], context)
    call("sale.opportunity.lead", [ended], context)
    (new,) = call("sale.opportunity.copy", [moved], {}, context)
    assert answer(["--workspace", str(workspace), "sync"]) == 0
    now, rebuilt = datetime.now(UTC), Rebuilt(workspace)
    for moment in [*moments_to_ask(small_company, count=10), before, between, now]:
        assert rebuilt.at(moment) == as_told(small_crm, moment), moment
    assert str(new) in rebuilt.at(now) and str(deleted) not in rebuilt.at(now)
