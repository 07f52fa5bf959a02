"""A company of any size, written straight into a workspace: made-up deals with plausible, consistent histories.

    python -m benchmarks.big_company WORKSPACE --deals 100000 [--seed 1]

Deals live for 80 days on average, so of four years' deals some 5 % are open. Everything recorded agrees with the values
as they stand, so every field's history is complete. The same seed and size give the same tables; memory is that of one
chunk of deals, whatever the size.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
import pyarrow as pa

from benchmarks.big_company_tables import (
    AS_OF,
    DAY,
    END,
    LOST,
    STAGES,
    START,
    WON,
    Size,
    few_tables,
    frame_of,
    ids_of,
    texts,
)
from crm.calendar import INSTANT, Calendar
from crm.facts import classify_fields
from crm.store import write_version_in_parts
from crm.tables import CrmTables

DEALS_AT_ONCE = 50_000
MEAN_DAYS_OPEN = 80.0
ACTIVITIES = 25.0
SHARE_LATE = 0.1

CATEGORIES = ["pipeline", "best_case", "commit", "closed", "omitted"]
CLOSED, OMITTED = 3, 4
DEAL_TYPES = ["new", "expansion", "renewal"]
LEAD_SOURCES = ["inbound", "outbound", "event", "partner"]
CURRENCIES = ["USD", "EUR"]
TYPES, TYPE_SHARES = ["email", "call", "meeting", "task"], [0.6, 0.2, 0.15, 0.05]
DIRECTIONS = ["inbound", "outbound"]
FIELDS = ["stage", "close_date", "amount", "forecast_category", "owner_id"]
CALENDAR = Calendar(
    base_currency="USD",
    stable_fields=("account_id", "owner_id", "deal_type", "lead_source", "currency"),
)


@dataclass(frozen=True)
class Lives:
    """A chunk of deals: arrays of one entry a deal; moments in microseconds since 1970, days as days since 1970."""

    number: np.ndarray
    created_at: np.ndarray
    seen_until: np.ndarray
    is_closed: np.ndarray
    is_won: np.ndarray
    rep: np.ndarray


@dataclass(frozen=True)
class Rows:
    """Recorded values of one field: the place of the deal in the chunk, the moment, the text before and after."""

    deal: np.ndarray
    at: np.ndarray
    field: str
    old: pa.Array
    new: pa.Array


def write_company(workspace: Path, *, deals: int, seed: int = 1) -> str:
    """Write a company of so many deals as a new data version; returns its name."""
    size = Size(deals, seed)
    sample = next(_parts(Size(min(deals, DEALS_AT_ONCE), seed)))
    described = CrmTables(few_tables(size), CALENDAR, AS_OF, "", {}, AS_OF)
    # Histories are complete by making, so what a sample shows of a field holds for all.
    classes = {
        field: replace(known, since=known.since and pd.Timestamp(START, unit="us", tz="UTC").as_unit("us"))
        for field, known in classify_fields(described.with_tables(**sample)).items()
    }
    described = replace(described, field_classes=classes)
    return write_version_in_parts(workspace, described, _parts(size), stages_derived=False, currency_given=True)


def _parts(size: Size) -> Iterator[dict[str, pd.DataFrame]]:
    """The deal tables, chunk by chunk."""
    written = 0
    for chunk, first in enumerate(range(0, size.deals, DEALS_AT_ONCE)):
        rng = np.random.default_rng([size.seed, chunk])
        number = np.arange(first, min(first + DEALS_AT_ONCE, size.deals))
        lives = _lives(size, number, rng)
        ids = ids_of("006", number, 9)
        contacts = rng.integers(1, 5, len(number))
        deals, history = _deals_and_history(size, lives, ids, rng)
        history["_sequence"] = written + np.arange(len(history), dtype="float64")
        written += len(history)
        yield {
            "deals": deals,
            "deal_history": history,
            "activities": _activities(lives, ids, contacts, chunk, rng),
            "deal_contacts": _contacts(lives, ids, contacts, rng),
        }


def _lives(size: Size, number: np.ndarray, rng: np.random.Generator) -> Lives:
    """When deals begin and end. The later the number, the later the deal begins."""
    count = len(number)
    created = START + ((number + rng.random(count)) / size.deals * (END - START - DAY)).astype("int64")
    ends = created + (rng.gamma(2.0, MEAN_DAYS_OPEN / 2, count) * DAY).astype("int64") + 1
    closed = ends < END
    won = closed & (rng.random(count) < 0.26)
    return Lives(number, created, np.minimum(ends, END), closed, won, rng.integers(0, size.reps, count))


def _deals_and_history(
    size: Size, lives: Lives, ids: pa.Array, rng: np.random.Generator
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The deals as they stand, and everything recorded on the way there."""
    stage_rows, stage = _stages(lives, rng)
    date_rows, close_day = _close_dates(lives, rng)
    amount_rows, amount = _amounts(lives, rng)
    category_rows, category = _categories(lives, rng)
    owner_rows, owner = _owners(size, lives, rng)
    count = len(ids)
    given = {
        "deal_id": ids,
        "created_at": pa.array(lives.created_at, pa.timestamp("us", "UTC")),
        "stage": texts(STAGES, stage),
        "account_id": ids_of("001", rng.integers(0, size.accounts, count), 8),
        "owner_id": owner,
        "deal_type": texts(DEAL_TYPES, rng.integers(0, 3, count)),
        "lead_source": texts(LEAD_SOURCES, rng.integers(0, 4, count)),
        "currency": texts(CURRENCIES, (rng.random(count) < 0.3).astype(int)),
        "amount": amount.astype("float64"),
        "close_date": pa.array(close_day * DAY, pa.timestamp("us")),
        "forecast_category": texts(CATEGORIES, category),
        "closed_at": pa.array(np.where(lives.is_closed, lives.seen_until, 0), mask=~lives.is_closed).cast(
            pa.timestamp("us", "UTC")
        ),
        "is_closed": lives.is_closed,
        "is_won": lives.is_won,
    }
    rows = [*stage_rows, *date_rows, *amount_rows, *category_rows, *owner_rows]
    deals = frame_of("deals", given).assign(_first_seen_at=pd.Series(pd.NaT, index=range(count), dtype=INSTANT))
    return deals, _history(ids, rows)


def _stages(lives: Lives, rng: np.random.Generator) -> tuple[list[Rows], np.ndarray]:
    stage = np.zeros(len(lives.number), dtype=int)
    rows = [_initial(lives, "stage", texts(STAGES, stage))]
    for at in _moments(lives, 3, rng):
        moves = rng.random(len(stage)) < 0.45
        after = np.where(moves, np.clip(stage + np.where(rng.random(len(stage)) < 0.85, 1, -1), 0, 3), stage)
        rows.append(_changed(at, "stage", texts(STAGES, stage), texts(STAGES, after), stage != after))
        stage = after
    final = np.where(lives.is_closed, np.where(lives.is_won, WON, LOST), stage)
    rows.append(_changed(lives.seen_until, "stage", texts(STAGES, stage), texts(STAGES, final), stage != final))
    return rows, final


def _close_dates(lives: Lives, rng: np.random.Generator) -> tuple[list[Rows], np.ndarray]:
    """Promised days, pushed now and then; the closing writes its own day over them."""
    day = lives.created_at // DAY + rng.integers(20, 120, len(lives.number))
    rows = [_initial(lives, "close_date", _dates(day))]
    for at in _moments(lives, 3, rng):
        moves = rng.random(len(day)) < 0.3
        after = np.where(moves, day + np.where(rng.random(len(day)) < 0.8, 1, -1) * rng.integers(3, 60, len(day)), day)
        rows.append(_changed(at, "close_date", _dates(day), _dates(after), day != after))
        day = after
    final = np.where(lives.is_closed, lives.seen_until // DAY, day)
    rows.append(_changed(lives.seen_until, "close_date", _dates(day), _dates(final), day != final))
    return rows, final


def _amounts(lives: Lives, rng: np.random.Generator) -> tuple[list[Rows], np.ndarray]:
    amount = np.round(np.exp(rng.normal(10.0, 1.0, len(lives.number))), -1).astype("int64") + 10
    rows = [_initial(lives, "amount", pa.array(amount).cast(pa.large_string()))]
    (at,) = _moments(lives, 1, rng)
    factor = np.where(rng.random(len(amount)) < 0.3, rng.choice([0.7, 0.9, 1.2], len(amount)), 1.0)
    final = np.round(amount * factor).astype("int64")
    written = (pa.array(values).cast(pa.large_string()) for values in (amount, final))
    return [*rows, _changed(at, "amount", *written, amount != final)], final


def _categories(lives: Lives, rng: np.random.Generator) -> tuple[list[Rows], np.ndarray]:
    category = np.zeros(len(lives.number), dtype=int)
    rows = [_initial(lives, "forecast_category", texts(CATEGORIES, category))]
    for at in _moments(lives, 2, rng):
        after = np.where(rng.random(len(category)) < 0.3, rng.integers(0, 3, len(category)), category)
        rows.append(
            _changed(at, "forecast_category", texts(CATEGORIES, category), texts(CATEGORIES, after), category != after)
        )
        category = after
    final = np.where(lives.is_closed, np.where(lives.is_won, CLOSED, OMITTED), category)
    before, after = texts(CATEGORIES, category), texts(CATEGORIES, final)
    return [*rows, _changed(lives.seen_until, "forecast_category", before, after, category != final)], final


def _owners(size: Size, lives: Lives, rng: np.random.Generator) -> tuple[list[Rows], pa.Array]:
    (at,) = _moments(lives, 1, rng)
    other = np.where(rng.random(len(lives.rep)) < 0.07, rng.integers(0, size.reps, len(lives.rep)), lives.rep)
    before, after = ids_of("005", lives.rep, 6), ids_of("005", other, 6)
    return [_changed(at, "owner_id", before, after, lives.rep != other)], after


def _activities(
    lives: Lives, ids: pa.Array, contacts: np.ndarray, chunk: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Emails, calls, meetings and tasks, evenly over each deal's life; some are logged days later, some not yet."""
    days = (lives.seen_until - lives.created_at) / DAY
    deal = np.repeat(np.arange(len(ids)), rng.poisson(days * ACTIVITIES / MEAN_DAYS_OPEN))
    count = len(deal)
    occurred = lives.created_at[deal] + (rng.random(count) * days[deal] * DAY).astype("int64")
    late = np.where(rng.random(count) < SHARE_LATE, rng.exponential(3.0 * DAY, count), 0.0).astype("int64")
    kept = occurred + late < END
    deal, occurred, logged = deal[kept], occurred[kept], (occurred + late)[kept]
    order = np.lexsort((occurred, deal))
    deal, occurred, logged, count = deal[order], occurred[order], logged[order], len(deal)
    contact = (rng.random(count) * contacts[deal]).astype("int64")
    given = {
        "activity_id": ids_of("00T", chunk * 100_000_000 + np.arange(count), 13),
        "occurred_at": pa.array(occurred, pa.timestamp("us", "UTC")),
        "deal_id": ids.take(pa.array(deal)),
        "user_id": ids_of("005", lives.rep[deal], 6),
        "contact_id": ids_of("003", lives.number[deal] * 8 + contact, 10),
        "type": texts(TYPES, rng.choice(len(TYPES), count, p=TYPE_SHARES)),
        "direction": texts(DIRECTIONS, (rng.random(count) < 0.6).astype(int)),
        "logged_at": pa.array(logged, pa.timestamp("us", "UTC")),
        "duration_minutes": rng.integers(5, 60, count).astype("float64"),
    }
    return frame_of("activities", given)


def _contacts(lives: Lives, ids: pa.Array, contacts: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    deal = np.repeat(np.arange(len(ids)), contacts)
    place = np.arange(len(deal)) - np.repeat(np.cumsum(contacts) - contacts, contacts)
    lasted = (lives.seen_until - lives.created_at)[deal]
    given = {
        "deal_id": ids.take(pa.array(deal)),
        "contact_id": ids_of("003", lives.number[deal] * 8 + place, 10),
        "role": texts(["champion", "decision maker", "user"], rng.integers(0, 3, len(deal))),
        "added_at": pa.array(
            lives.created_at[deal] + (rng.random(len(deal)) * lasted).astype("int64"), pa.timestamp("us", "UTC")
        ),
    }
    return frame_of("deal_contacts", given)


def _moments(lives: Lives, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """So many moments inside the life of each deal, each later than the one before."""
    lasted = lives.seen_until - lives.created_at
    shares = np.sort(rng.uniform(0.02, 0.98, (count, len(lasted))), axis=0)
    return [lives.created_at + (share * lasted).astype("int64") for share in shares]


def _initial(lives: Lives, field: str, values: pa.Array) -> Rows:
    return Rows(np.arange(len(values)), lives.created_at, field, pa.nulls(len(values), pa.large_string()), values)


def _changed(at: np.ndarray, field: str, old: pa.Array, new: pa.Array, differs: np.ndarray) -> Rows:
    places = np.flatnonzero(differs)
    return Rows(places, at[places], field, old.take(pa.array(places)), new.take(pa.array(places)))


def _history(ids: pa.Array, rows: list[Rows]) -> pd.DataFrame:
    deal, at = np.concatenate([part.deal for part in rows]), np.concatenate([part.at for part in rows])
    field = np.concatenate([np.full(len(part.deal), FIELDS.index(part.field)) for part in rows])
    order = pa.array(np.lexsort((at, deal)))
    given = {
        "deal_id": ids.take(pa.array(deal)).take(order),
        "changed_at": pa.array(at, pa.timestamp("us", "UTC")).take(order),
        "field": texts(FIELDS, field).take(order),
        "old_value": pa.concat_arrays([part.old for part in rows]).take(order),
        "new_value": pa.concat_arrays([part.new for part in rows]).take(order),
    }
    return frame_of("deal_history", given)


def _dates(days: np.ndarray) -> pa.Array:
    """Days since 1970 as text."""
    first = int(days.min())
    written = np.datetime_as_string(np.arange(first, int(days.max()) + 1).astype("datetime64[D]"))
    return pa.array(written.tolist(), pa.large_string()).take(pa.array(days - first))


def main() -> None:
    """Write a company into a workspace and say how long it took."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("workspace", type=Path)
    arguments.add_argument("--deals", type=int, default=100_000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    begun = perf_counter()
    version = write_company(chosen.workspace, deals=chosen.deals, seed=chosen.seed)
    print(f"{chosen.deals:,} deals, data version {version}, {perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
