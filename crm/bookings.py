"""What deals show and what counts as booked, at a moment: the money behind scores, forecasts and actuals alike."""

import pandas as pd

from crm.calendar import Period
from crm.hierarchy import build_hierarchy, org_chart, place_owners
from crm.history import DealHistory, values_at, wins_counting
from crm.money import RateBook
from crm.tables import CrmTables

SHOWN_FIELDS = ("owner_id", "stage", "pipeline", "deal_type", "currency", "account_id")


def shown_deals(tables: CrmTables, history: DealHistory, spine: pd.DataFrame) -> pd.DataFrame:
    """What rows about deals show: values as they are now at the data's moment, by the as-of rule at a past one.

    Parameters
    ----------
    spine : deal_id, as_of; `rated_at` (instants) where the money is to be rated at another moment than as_of.

    Returns
    -------
    Frame with the index of `spine`: deal_id, as_of, owner_id, stage, pipeline, deal_type, currency, account_id, segment
    (the account's), amount (the calendar's measure, deal currency), amount_base (base currency, NaN unknown).
    """
    measure = tables.calendar.measure
    fields = [*SHOWN_FIELDS, measure]
    past = values_at(history, spine, fields).set_axis(spine.index)
    deals = tables.get("deals").set_index("deal_id")
    now = deals.reindex(index=spine["deal_id"], columns=fields).set_axis(spine.index)
    is_now = spine["as_of"] >= tables.as_of
    values = past[fields].where(~is_now, now).astype(dict.fromkeys(SHOWN_FIELDS, "str"))
    amount = pd.to_numeric(values[measure]).astype("float64")
    segments = tables.get("accounts").drop_duplicates("account_id").set_index("account_id")
    segment = values["account_id"].map(segments["segment"]) if "segment" in segments else None
    rated_at = spine["rated_at"] if "rated_at" in spine else spine["as_of"]
    amount_base = RateBook.from_tables(tables).to_base(amount, values["currency"], rated_at)
    shown = spine[["deal_id", "as_of"]].assign(**{name: values[name] for name in SHOWN_FIELDS})
    shown["segment"] = pd.Series(segment, index=spine.index, dtype="str")
    return shown.assign(amount=amount, amount_base=amount_base)


def bookings(
    tables: CrmTables, history: DealHistory, known_at: pd.Timestamp, period: Period | None = None
) -> pd.DataFrame:
    """The wins that count at a moment, with the money, owner and place they show then.

    Parameters
    ----------
    period : only wins booked in it; None = all.

    Returns
    -------
    Frame: the columns of `shown_deals` at `known_at`, won_at, booked_on, and rep, team, region, managers of the owner
    when that day began. Money is rated at booked_on; unknown money is NaN.
    """
    wins = wins_counting(history, known_at).dropna(subset=["booked_on"])
    if period is not None:
        inside = (wins["booked_on"] >= pd.Timestamp(period.start)) & (wins["booked_on"] < pd.Timestamp(period.end))
        wins = wins[inside]
    wins = wins.sort_values(["deal_id", "won_at"], ignore_index=True)
    booked_at = tables.calendar.midnights(wins["booked_on"])
    shown = shown_deals(tables, history, wins[["deal_id"]].assign(as_of=known_at, rated_at=booked_at))
    placed = place_owners(tables, history, shown["owner_id"], booked_at.where(booked_at < known_at, known_at))
    return shown.assign(won_at=wins["won_at"], booked_on=wins["booked_on"]).join(placed)


def bookings_by_node(tables: CrmTables, history: DealHistory, known_at: pd.Timestamp, period: Period) -> pd.DataFrame:
    """What a period brought each node, as known at a moment: node_type, node_id, booked (base currency).

    Wins of unknown money count as nothing. Nodes of people who came later are missing, and brought nothing.
    """
    won = bookings(tables, history, known_at, period)
    hierarchy = build_hierarchy(org_chart(tables, history, known_at), won)
    booked = hierarchy.roll_up(won["amount_base"].fillna(0.0).to_numpy())
    return hierarchy.nodes[["node_type", "node_id"]].assign(booked=booked)
