"""Features as of T are the same from the export taken at T and from any later one, whatever happened in between."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from kept_companies import COMPANIES, assert_same_features, features_at, history_of, tables_of, taken

from crm.history import build_history
from crm.synthetic.deal_tables import CLOSED_STAGES
from crm.tables import CrmTables
from crm.truncation import truncate_export
from features.catalogue import CATALOGUE

UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)
MOMENTS = [pd.Timestamp(text, tz="UTC").as_unit("us") for text in ("2023-06-05", "2023-08-17 13:37", "2024-02-12")]
BEFORE = pd.Timedelta(35, "D")


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment:%b %d}")
@pytest.mark.parametrize("name", COMPANIES)
def test_features_are_those_of_the_export_truncated_at_the_moment(name, moment):
    tables, history = tables_of(name), history_of(name)
    truncated = truncate_export(tables, moment, history)
    moments = [moment - BEFORE, moment]
    expected = features_at(tables, history, moments)
    assert expected["as_of"].nunique() == 2
    assert_same_features(features_at(truncated, build_history(truncated), moments), expected)


AS_OF = MOMENTS[1]


@cache
def taken_at_the_moment(name: str) -> CrmTables:
    """The export really taken at AS_OF, with the later field classes: the one thing read from after it."""
    return replace(taken(name, AS_OF), field_classes=tables_of(name).field_classes)


@cache
def features_taken_at_the_moment(name: str) -> pd.DataFrame:
    tables = taken_at_the_moment(name)
    return features_at(tables, build_history(tables), [AS_OF])


@pytest.mark.parametrize("name", [name for name in COMPANIES if name != "migrated"])
def test_features_are_those_of_the_export_really_taken_at_the_moment(name):
    """All but the migrated company, whose later export shows false birthdays."""
    assert_same_features(features_at(tables_of(name), history_of(name), [AS_OF]), features_taken_at_the_moment(name))


def test_the_companies_bring_every_feature_to_life():
    built = pd.concat([features_at(tables_of(name), history_of(name), MOMENTS) for name in COMPANIES])
    assert [feature.name for feature in CATALOGUE if built[feature.name].nunique() < 2] == []


# -- whatever is done to the company after the moment ----------------------------------------------------------------

Edit = Callable[[CrmTables, int, pd.Timestamp, int], CrmTables]


def with_row(tables: CrmTables, name: str, /, **row: object) -> CrmTables:
    """One row more; columns not given are empty."""
    frame = tables.get(name)
    added = pd.DataFrame({column: pd.Series([row.get(column)], dtype=frame[column].dtype) for column in frame})
    return tables.with_tables(**{name: pd.concat([frame, added], ignore_index=True)})


def with_deal(tables: CrmTables, place: int, **values: object) -> CrmTables:
    deals = tables.get("deals").copy()
    for column, value in values.items():
        deals.loc[place, column] = value
    return tables.with_tables(deals=deals)


def written(value: object) -> str | None:
    if pd.isna(value):
        return None
    return f"{value:%Y-%m-%d}" if isinstance(value, pd.Timestamp) else str(value)


def other_value(tables: CrmTables, field: str, choice: int) -> object:
    """Any value that the field has somewhere."""
    values = tables.get("deals")[field].dropna()
    return values.iloc[choice % len(values)]


def change_a_field(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """A change with a history row, whose old value is what stood there; stages too, so deals close and reopen."""
    fields = ["stage", "amount", "close_date", "owner_id", "account_id", "forecast_category", "currency", "deal_type"]
    field = fields[choice % len(fields)]
    deal, new = tables.get("deals").loc[place], other_value(tables, field, choice)
    if field == "stage" and deal["stage"] in CLOSED_STAGES and closed_without_a_row(tables, deal):
        return tables
    tables = with_row(
        tables,
        "deal_history",
        deal_id=deal["deal_id"],
        changed_at=at,
        field=field,
        old_value=written(deal[field]),
        new_value=written(new),
    )
    return with_deal(tables, place, **{field: new})


def closed_without_a_row(tables: CrmTables, deal: pd.Series) -> bool:
    """Whether only closed_at tells of the closing: a row that reopens it would wipe out when it closed."""
    rows = tables.get("deal_history")
    stages = rows.loc[rows["deal_id"].eq(deal["deal_id"]) & rows["field"].eq("stage"), "new_value"]
    return stages.empty or stages.iloc[-1] not in CLOSED_STAGES


def overwrite_silently(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """A change without a row, of a field whose history is not complete anyway."""
    fields = ["amount", "close_date", "forecast_category", "owner_id", "account_id", "deal_type", "lead_source"]
    field = fields[choice % len(fields)]
    if tables.field_classes[field].tracked == "tracked":
        return tables
    return with_deal(tables, place, **{field: other_value(tables, field, choice)})


def close_silently(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """Closed with nothing but closed_at to tell; its open stages are on record."""
    deal, rows = tables.get("deals").loc[place], tables.get("deal_history")
    recorded = rows["deal_id"].eq(deal["deal_id"]) & rows["field"].eq("stage") & (rows["changed_at"] <= AS_OF)
    if deal["stage"] in CLOSED_STAGES or not recorded.any():
        return tables
    return with_deal(tables, place, stage=CLOSED_STAGES[choice % 2], closed_at=at)


def remove(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """Deleted or merged away, the merge dated or not."""
    into = tables.get("deals")["deal_id"].iloc[choice % 7] if choice % 3 else None
    return with_deal(tables, place, deleted_at=pd.NaT if choice % 3 == 2 else at, merged_into=into)


def create(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """A new deal with the owner and account of another one, open or closed at once."""
    deal = tables.get("deals").loc[place].to_dict() | {"deal_id": f"new {at} {choice}", "created_at": at}
    closed_at = at if deal["stage"] in CLOSED_STAGES else pd.NaT
    return with_row(tables, "deals", **deal | {"closed_at": closed_at, "deleted_at": pd.NaT, "merged_into": None})


def log_an_activity(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """Later, or earlier but logged later."""
    happened = AS_OF - pd.Timedelta(choice % 30, "D") if choice % 2 else at
    return with_row(
        tables,
        "activities",
        activity_id=f"new {at} {choice}",
        deal_id=tables.get("deals").loc[place, "deal_id"],
        occurred_at=happened,
        logged_at=at,
        contact_id=f"c{choice}",
        type=("call", "meeting", "email")[choice % 3],
        direction=("inbound", "outbound")[choice % 2],
    )


def add_a_contact(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """A contact from then on, or of no date."""
    deal_id = tables.get("deals").loc[place, "deal_id"]
    return with_row(
        tables, "deal_contacts", deal_id=deal_id, contact_id=f"c{choice}", added_at=at if choice % 2 else pd.NaT
    )


def change_the_people(tables: CrmTables, place: int, at: pd.Timestamp, choice: int) -> CrmTables:
    """A user moves, another is hired; an account and an exchange rate come new."""
    users = tables.get("users").copy()
    mover = choice % len(users)
    tables = with_row(
        tables,
        "user_history",
        user_id=users.loc[mover, "user_id"],
        changed_at=at,
        field="team",
        old_value=users.loc[mover, "team"],
        new_value="elsewhere",
    )
    users.loc[mover, "team"] = "elsewhere"
    tables = with_row(tables.with_tables(users=users), "users", user_id=f"new {at} {choice}", hired_at=at)
    tables = with_row(tables, "accounts", account_id=f"new {at} {choice}", segment="SMB", created_at=at)
    return with_row(tables, "exchange_rates", currency="USD", valid_from=at, rate_to_base=1.0 + choice)


EDITS: list[Edit] = [
    change_a_field,
    change_a_field,
    overwrite_silently,
    close_silently,
    remove,
    create,
    log_an_activity,
    add_a_contact,
    change_the_people,
]
EDITED = ["stage rows only", "nothing declared stable", "silent closings"]


@settings(max_examples=25, deadline=None, phases=UNSHRUNK)
@given(
    name=st.sampled_from(EDITED),
    edits=st.lists(
        st.tuples(st.sampled_from(EDITS), st.integers(0, 10_000), st.integers(1, 150 * 86_400), st.integers(0, 200)),
        min_size=10,
        max_size=60,
        unique_by=lambda drawn: drawn[2],
    ),
)
def test_nothing_done_after_the_moment_changes_a_feature(name, edits):
    tables = taken_at_the_moment(name)
    tables = replace(tables, as_of=AS_OF + pd.Timedelta(151, "D"))
    for edit, deal, seconds, choice in sorted(edits, key=lambda drawn: drawn[2]):
        place = deal % len(tables.get("deals"))
        tables = edit(tables, place, AS_OF + pd.Timedelta(seconds, "s"), choice)
    assert_same_features(features_at(tables, build_history(tables), [AS_OF]), features_taken_at_the_moment(name))
