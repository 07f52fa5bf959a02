"""An export in the making: which rows were known by its moment, and how values are written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pandas as pd

from crm.synthetic.company import Company
from crm.synthetic.config import CompanyConfig, calendar_day, day_number, day_start
from crm.synthetic.deals import Rows
from crm.synthetic.journal import CLOSED_WON, INITIAL, LOSS_REASON, STAGE
from crm.synthetic.simulation import CompanyState

_MIGRATION_MICROSECONDS = 6 * 3_600_000_000


@dataclass(frozen=True)
class Delivery:
    """A state and the moment of which it is exported; `until` is the moment in microseconds since 1970.

    `changes` are all changes entered by then in the order of time, with the value each replaced (`old`).
    """

    state: CompanyState
    moment: pd.Timestamp
    until: int = field(init=False)
    changes: pd.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "until", microseconds(self.moment))
        changes = pd.DataFrame(self.known("changes")).sort_values("at", kind="stable", ignore_index=True)
        changes["old"] = changes.groupby(["deal", "field"])["value"].shift()
        object.__setattr__(self, "changes", changes)

    @property
    def config(self) -> CompanyConfig:
        """The switches."""
        return self.state.config

    @property
    def company(self) -> Company:
        """The people and prices."""
        return self.state.company

    def midnight(self, day: int) -> int:
        """The local midnight that begins a day."""
        return microseconds(self.company.calendar.midnight(calendar_day(day)))

    def opening(self, day: int) -> int:
        """Eight in the morning of a day, local: when people start and move."""
        return day_start(day, self.config.time_zone) + 8 * 3_600_000_000

    def known(self, table: str) -> Rows:
        """The journal's rows of a table that were entered by the moment."""
        rows = self.state.journal.columns(table)
        entered = rows["at"] <= self.until
        return {name: values[entered] for name, values in rows.items()}

    @property
    def migrated_on(self) -> date | None:
        """The day of the migration, where it is over by the moment."""
        day = self.config.migration_on
        is_over = day is not None and self.midnight(day_number(day)) + _MIGRATION_MICROSECONDS <= self.until
        return day if is_over else None

    def imported_at(self, deal: np.ndarray) -> np.ndarray:
        """When the migration came by each deal: a night through all of them, one a second; long ago without one."""
        day = self.migrated_on
        if day is None:
            return np.zeros(len(deal), np.int64)
        return self.midnight(day_number(day)) + np.asarray(deal, np.int64) % 20_000 * 1_000_000

    def visible_changes(self) -> pd.DataFrame:
        """The changes a migration leaves: open deals begin with that night's values, closed ones have no history."""
        if self.migrated_on is None:
            return self.changes
        before = self.changes["at"].to_numpy() < self.imported_at(self.changes["deal"].to_numpy())
        latest = self.changes[before].groupby(["deal", "field"], as_index=False).last()
        closed = latest.loc[latest["field"].eq(STAGE) & latest["value"].ge(CLOSED_WON), "deal"]
        carried = latest[~latest["deal"].isin(closed) & latest["field"].ne(LOSS_REASON) & latest["value"].notna()]
        carried = carried.assign(at=self.imported_at(carried["deal"].to_numpy()), kind=INITIAL, old=np.nan)
        return pd.concat([carried, self.changes[~before]]).sort_values("at", kind="stable", ignore_index=True)


# -- how values are written ----------------------------------------------------------------------------------------


def microseconds(instant: pd.Timestamp) -> int:
    """An instant as whole microseconds since 1970."""
    return int(instant.as_unit("us").asm8.astype(np.int64))


def instants(values: np.ndarray | Sequence[float] | pd.Series) -> pd.Series:
    """Microseconds since 1970 (NaN = unknown) as instants."""
    numbers = pd.Series(np.asarray(values, float))
    known = pd.Series(pd.to_datetime(numbers.fillna(0).astype(np.int64), unit="us", utc=True))
    return known.dt.as_unit("us").where(numbers.notna())


def dates(values: np.ndarray | Sequence[float] | pd.Series) -> pd.Series:
    """Day numbers (NaN = unknown) as naive dates."""
    numbers = pd.Series(np.asarray(values, float))
    known = pd.Series(numbers.fillna(0).to_numpy(np.int64).astype("datetime64[D]").astype("datetime64[us]"))
    return known.where(numbers.notna())


def ids(prefix: str, numbers: np.ndarray) -> np.ndarray:
    """The CRM's ids: a prefix and eight digits, counted from one."""
    return np.char.add(prefix, np.char.zfill((np.asarray(numbers, np.int64) + 1).astype(str), 8))


def deal_ids(rows: np.ndarray) -> np.ndarray:
    """The CRM's ids of deals by their row number."""
    return ids("006", rows)


def spelled(codes: np.ndarray, names: Iterable[str]) -> np.ndarray:
    """Codes as their names; NaN and negative codes as missing."""
    by_code = np.array([*names, None], dtype=object)
    known = np.nan_to_num(np.asarray(codes, float), nan=-1.0).astype(np.int64)
    return by_code[np.where(known < 0, len(by_code) - 1, known)]
