"""Public sales data as the tool reads anybody's: the sets under ../shared/data, brought into the contract's tables.

None of it is part of dealcast (the licences differ). Only what was known of every deal at its start is brought along: a
column that is filled for some outcomes only would tell the outcome.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from crm.history import DealHistory, snapshot_spine
from crm.ingest import import_folder
from crm.store import read_tables
from crm.tables import CrmTables
from training.labels import won_in_period

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "data"
BANK, MAVEN, OLIST, SALVIRT = (FOLDER / name for name in ("bank_loans", "maven_crm", "olist_funnel", "salvirt_b2b"))

MAVEN_RECORDED_FROM, OLIST_RECORDED_FROM = "2017-03-01", "2017-12-01"
"""The first days on which closings were recorded. Of deals opened earlier, those that closed by then are missing."""


def is_here(folder: Path) -> bool:
    """Whether a set is there; says so if it is not."""
    if not folder.is_dir():
        print(f"skipped: {folder} is not here (public data, see its own licence)", flush=True)
    return folder.is_dir()


def bank_tables() -> CrmTables:
    """7,455 loan applications of a Dutch bank: contract tables already."""
    return _imported(BANK, pd.Timestamp("2012-01-01", tz="UTC"))


def maven_tables() -> CrmTables:
    """Deals of a fictional seller of computers; nothing in them tells won from lost.

    The account is left out: it is missing for deals that were open at the end only. The amount is the product's list
    price, as what was paid is known of won deals only. Deals in Prospecting have no date at all.
    """
    pipeline = pd.read_csv(MAVEN / "sales_pipeline.csv", dtype="str")
    teams = pd.read_csv(MAVEN / "sales_teams.csv", dtype="str")
    products = pd.read_csv(MAVEN / "products.csv", dtype="str").set_index("product")
    begun = pipeline[pipeline["engage_date"] >= MAVEN_RECORDED_FROM]
    product = begun["product"].replace({"GTXPro": "GTX Pro"})
    deals = pd.DataFrame(
        {
            "deal_id": begun["opportunity_id"],
            "created_at": begun["engage_date"],
            "stage": begun["deal_stage"],
            "owner_id": begun["sales_agent"],
            "amount": product.map(products["sales_price"]),
            "closed_at": begun["close_date"],
            "product": product,
            "series": product.map(products["series"]),
        }
    )
    agents = teams.assign(user_id=teams["sales_agent"], role="rep", manager_id=teams["manager"])
    managers = teams[["manager", "regional_office"]].drop_duplicates()
    managers = managers.assign(user_id=managers["manager"], role="manager")
    users = pd.concat([agents, managers]).assign(
        team=lambda all_: all_["manager"], region=lambda all_: all_["regional_office"]
    )
    return _written(
        {
            "deals": deals,
            "stages": _stages("Engaging", "Won", "Lost"),
            "users": users[["user_id", "role", "manager_id", "team", "region"]],
        },
        as_of="2018-01-01",
        stable_fields=["owner_id", "amount", "product", "series"],
    )


def olist_tables() -> CrmTables:
    """Leads of a marketplace, won as sellers or still open: nobody ever marked one as lost.

    Every column of its table of won leads is left out, but for the date: the others are known of won leads only.
    """
    leads = pd.read_csv(OLIST / "olist_marketing_qualified_leads_dataset.csv", dtype="str")
    won = pd.read_csv(OLIST / "olist_closed_deals_dataset.csv", dtype="str").set_index("mql_id")["won_date"]
    leads = leads[leads["first_contact_date"] >= OLIST_RECORDED_FROM]
    closed_at = leads["mql_id"].map(won)
    # Contacts have a day, wins an instant: one in the night before its own contact happened on the day of contact.
    closed_at = closed_at.where(
        closed_at.isna() | (closed_at >= leads["first_contact_date"]), leads["first_contact_date"]
    )
    deals = pd.DataFrame(
        {
            "deal_id": leads["mql_id"],
            "created_at": leads["first_contact_date"],
            "stage": closed_at.notna().map({True: "Won", False: "Contacted"}),
            "lead_source": leads["origin"],
            "closed_at": closed_at,
            "landing_page": leads["landing_page_id"],
        }
    )
    return _written(
        {"deals": deals, "stages": _stages("Contacted", "Won", "Lost")},
        as_of="2018-12-01",
        period="month",
        stable_fields=["lead_source", "landing_page"],
    )


class LaterSnapshots(NamedTuple):
    """Snapshots (deal_id, as_of) and whether each was won in its period, 1 or 0."""

    spine: pd.DataFrame
    won: np.ndarray


def snapshots_after(
    history: DealHistory, calendar: Calendar, known_at: pd.Timestamp, until: pd.Timestamp, *, days: int
) -> LaterSnapshots:
    """The deals open every so many days from a training moment on until a period's end: what a model is judged on.

    Deals merged away in their period are left out.
    """
    spine = snapshot_spine(history, [at for at in calendar.moments(known_at, until, days) if at < until])
    won = won_in_period(history, spine, calendar.period_frame(spine["as_of"])["end_at"])
    known = won.notna()
    return LaterSnapshots(spine[known].reset_index(drop=True), won[known].to_numpy())


def salvirt_rows() -> tuple[pd.DataFrame, pd.Series]:
    """448 B2B deals without dates, ids or amounts: 22 categories of each, and whether it was won (1 or 0).

    No CRM tables can be made of them. Many rows are alike: whoever splits them keeps those together.
    """
    rows = pd.read_csv(SALVIRT / "B2B_dataset.csv", dtype="str")
    return rows.drop(columns="Status"), (rows["Status"] == "Won").astype("float64")


def _stages(open_stage: str, *closed: str) -> pd.DataFrame:
    names = [open_stage, *closed]
    return pd.DataFrame(
        {
            "stage": names,
            "sort_order": range(1, len(names) + 1),
            "is_closed": [name in closed for name in names],
            "is_won": [name == "Won" for name in names],
        }
    )


def _written(tables: dict[str, pd.DataFrame], *, as_of: str, **calendar: object) -> CrmTables:
    """Write an export and import it."""
    with TemporaryDirectory() as folder:
        for name, frame in tables.items():
            frame.to_csv(Path(folder) / f"{name}.csv", index=False)
        (Path(folder) / "calendar.json").write_text(json.dumps({"as_of": as_of, "base_currency": "USD", **calendar}))
        return _imported(Path(folder), pd.Timestamp(as_of, tz="UTC"))


def _imported(source: Path, now: pd.Timestamp) -> CrmTables:
    with TemporaryDirectory() as workspace:
        report = import_folder(Path(workspace), source, full=False, now=now)
        refused = {name: counts["refused"] for name, counts in report.tables.items() if counts["refused"]}
        if refused:
            raise ValueError(f"{source}: rows were refused: {refused}")
        return read_tables(Path(workspace))
