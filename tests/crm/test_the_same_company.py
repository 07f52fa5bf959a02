"""One company in Salesforce, HubSpot, Dynamics, Creme (stand-ins) and a warehouse: from each the same tables arrive."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from command_line import CommandLine
from commercial_crms import COMMERCIAL, SALESFORCE, Commercial, assert_is_the_company
from fivetran_tables import as_fivetran_lands_it, load
from invented_company import STAGES, Company, invented_company
from stand_in import StandIn

from crm.store import read_tables

pytestmark = pytest.mark.slow

AHEAD = 180
"""Seconds by which the clocks of the CRMs are ahead of ours."""

HISTORY = ("stage", "amount", "close_date")
"""Fields whose past each of them keeps, if Dynamics audits them; of others each keeps its own (docs/crm.md)."""


@dataclass
class Source:
    """Where the company is, and the workspace connected to it.

    Attributes
    ----------
    crm : how it names things.
    follow : bring it up to what the company has done, where that does not happen by itself.
    """

    name: str
    crm: Commercial
    dealcast: CommandLine
    follow: Callable[[], None]
    stand_in: StandIn | None = None

    def sync(self) -> dict[str, Any]:
        """Sync; the requests it says it sent are those that came."""
        before = len(self.stand_in.asked) if self.stand_in else 0
        told = self.dealcast("sync")
        assert self.stand_in is None or told["api_calls"] == len(self.stand_in.asked) - before
        return told

    def tables(self) -> dict[str, list[tuple]]:
        """What arrived, with the company's own numbers and words in place of the CRM's."""
        tables, crm = read_tables(self.dealcast.workspace), self.crm
        number = {crm.deal_id(n): n for n in range(99)}
        owner = {crm.owner_id(n): n for n in range(9)}
        stage = {crm.stage(name): name for name, *_ in STAGES}
        deals, history, calls = (tables.get(name) for name in ("deals", "deal_history", "activities"))
        calls = calls[calls["type"] == "call"]
        history = history[history["field"].isin(HISTORY)]
        flags = tables.get("stages").set_index("stage")[["is_closed", "is_won"]]

        def plain(field: str, value: object) -> object:
            if pd.isna(value):
                return None
            return {"stage": stage.get, "amount": float, "close_date": lambda day: str(day)[:10]}[field](str(value))

        return {
            "deals": sorted(
                (number[row.deal_id], stage[row.stage], row.amount, f"{row.close_date:%Y-%m-%d}", row.created_at)
                + (owner[row.owner_id], pd.notna(row.deleted_at), *flags.loc[row.stage].tolist())
                for row in deals.itertuples()
            ),
            "deal_history": sorted(
                (number[row.deal_id], row.field, row.changed_at)
                + (str(plain(row.field, row.old_value)), str(plain(row.field, row.new_value)))
                for row in history.itertuples()
            ),
            "activities": sorted(
                (number[row.deal_id], row.occurred_at, owner[row.user_id], row.type) for row in calls.itertuples()
            ),
        }


@contextmanager
def in_every_crm(company: Company, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Source]]:
    """The company in each CRM and in a warehouse, a workspace connected to each."""
    with ExitStack() as stack:
        sources = []
        for crm in COMMERCIAL:
            monkeypatch.setenv(*crm.secret)
            stand_in = stack.enter_context(crm.stand_in(company).running())
            stand_in.clock_ahead = AHEAD
            source = Source(crm.name, crm, CommandLine(folder / crm.name), lambda: None, stand_in)
            source.dealcast("connect", crm.name, *crm.settings(stand_in.url))
            sources.append(source)
        engine = sa.create_engine(f"sqlite:///{folder}/warehouse.db")
        stack.callback(engine.dispose)

        def land() -> None:
            load(engine, as_fivetran_lands_it(company))

        warehouse = Source("warehouse", SALESFORCE, CommandLine(folder / "warehouse"), land)
        warehouse.follow()
        warehouse.dealcast("connect", "warehouse", f"database={engine.url.render_as_string()}")
        yield [*sources, warehouse]


def test_the_same_tables_arrive_and_what_changes_follows_whatever_the_clocks_say(tmp_path, monkeypatch):
    company = invented_company(24)
    with in_every_crm(company, tmp_path, monkeypatch) as sources:
        first = [source.sync()["api_calls"] for source in sources]
        arrived = [source.tables() for source in sources]
        assert len(arrived[0]["deals"]) == 24 and len(arrived[0]["deal_history"]) > 3 * 24
        for source, tables in zip(sources[1:], arrived[1:], strict=True):
            assert tables == arrived[0], source.name
        signed, lost, thrown_away, *_ = company.open_ones()
        company.move(signed, "Signed", seconds_ago=5 - AHEAD)
        company.move(lost, "Lost", seconds_ago=5 - AHEAD)
        company.delete(thrown_away, seconds_ago=5 - AHEAD)
        company.add(seconds_ago=5 - AHEAD)
        for source, calls in zip(sources, first, strict=True):
            source.follow()
            told = source.sync()
            counts = told["tables"]["deals"]
            assert (counts["new"], counts["changed"]) == (1, 3), source.name
            assert_is_the_company(read_tables(source.dealcast.workspace), company, source.crm)
            assert source.tables() == sources[0].tables(), source.name
            assert source.stand_in is None or told["api_calls"] < calls, source.name
        for source in sources:
            assert source.sync()["tables"].get("deals", {"changed": 0})["changed"] == 0, source.name


def test_a_field_that_is_no_longer_there_is_told_and_what_was_read_of_it_stays(tmp_path, monkeypatch):
    company = invented_company(6)
    with in_every_crm(company, tmp_path, monkeypatch) as sources:
        for source in (each for each in sources if each.stand_in and each.crm.region):  # warehouse: test_warehouse.py
            region = source.crm.region
            source.dealcast("connect", source.name, f"also_read={region}")
            source.sync()
            company.move(0, "Offer")  # for a deal to be read again
            source.stand_in.without_fields.add(region)
            notes = {note["what"].split(".")[-1]: note["because"] for note in source.sync()["notes"]}
            assert notes.get(region) == "is gone", source.name
            regions = read_tables(source.dealcast.workspace).get("deals")[region]
            assert set(regions) == {f"Region {number}" for number in range(4)}, source.name
