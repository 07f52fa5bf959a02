"""The tables of a made-up company that do not grow with every deal, and the columns all its tables are made of."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from crm.contract import empty_frame

AS_OF = pd.Timestamp("2026-01-05", tz="UTC").as_unit("us")
YEARS = 4
DAY = 86_400_000_000
END = int(AS_OF.asm8.astype("int64"))
START = END - int(YEARS * 365.25) * DAY
STAGES = ["Qualify", "Demo", "Proposal", "Negotiation", "Won", "Lost"]
WON, LOST = 4, 5
REGIONS = ["Americas", "EMEA", "APAC", "LATAM"]
INDUSTRIES = ["Software", "Retail", "Finance", "Logistics", "Manufacturing"]
SEGMENTS = ["SMB", "Mid-market", "Enterprise"]


@dataclass(frozen=True)
class Size:
    """How many there are of everything that does not grow with a chunk."""

    deals: int
    seed: int

    @property
    def accounts(self) -> int:
        """A quarter as many as deals."""
        return max(8, self.deals // 4)

    @property
    def reps(self) -> int:
        """One for 300 deals."""
        return max(16, self.deals // 300)


def few_tables(size: Size) -> dict[str, pd.DataFrame]:
    """The tables that do not come in chunks."""
    rng = np.random.default_rng([size.seed, 1_000_000])
    count = size.accounts
    accounts = {
        "account_id": ids_of("001", np.arange(count), 8),
        "industry": texts(INDUSTRIES, rng.integers(0, len(INDUSTRIES), count)),
        "segment": texts(SEGMENTS, rng.integers(0, 3, count)),
        "region": texts(REGIONS, rng.integers(0, 4, count)),
        "employees": np.round(np.exp(rng.normal(5.0, 1.5, count))) + 1,
        "created_at": pa.array(np.full(count, START), pa.timestamp("us", "UTC")),
    }
    stages = {
        "stage": STAGES,
        "sort_order": np.arange(1.0, 7.0),
        "is_closed": np.arange(6) >= WON,
        "is_won": np.arange(6) == WON,
        "default_probability": [0.1, 0.25, 0.5, 0.75, 1.0, 0.0],
    }
    months = pd.date_range(pd.Timestamp("2021-12-01", tz="UTC"), AS_OF, freq="MS").as_unit("us")
    rates = {
        "currency": ["EUR"] * len(months),
        "valid_from": pa.array(months.asi8, pa.timestamp("us", "UTC")),
        "rate_to_base": np.round(1.1 + rng.normal(0, 0.02, len(months)), 4),
    }
    users, user_history = _people(size, rng)
    return {
        "accounts": frame_of("accounts", accounts),
        "users": users,
        "user_history": user_history,
        "stages": frame_of("stages", stages),
        "exchange_rates": frame_of("exchange_rates", rates),
    }


def _people(size: Size, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reps in teams of eight with a manager each, a director a region, one executive; a tenth of the reps moved."""
    reps, teams = size.reps, -(-size.reps // 8)
    team = np.arange(reps) // 8
    managers, directors = reps + np.arange(teams), reps + teams + np.arange(4)
    executive = reps + teams + 4
    region = np.concatenate([team % 4, np.arange(teams) % 4, np.arange(4)])
    above = np.concatenate([managers[team], directors[np.arange(teams) % 4], np.full(4, executive)])
    roles = ["rep"] * reps + ["manager"] * teams + ["director"] * 4 + ["executive"]
    names = [f"Team {number}" for number in range(teams)]
    hired = START - rng.integers(30, 2000, executive + 1) * DAY
    users = {
        "user_id": ids_of("005", np.arange(executive + 1), 6),
        "role": roles,
        "manager_id": pa.array([*ids_of("005", above, 6).to_pylist(), None], pa.large_string()),
        "team": [*(names[number] for number in team), *names, *[None] * 5],
        "region": [*(REGIONS[number] for number in region), None],
        "hired_at": pa.array(hired, pa.timestamp("us", "UTC")),
    }
    moved = np.flatnonzero(rng.random(reps) < 0.1)
    moves = {
        "user_id": ids_of("005", moved, 6),
        "changed_at": pa.array(rng.integers(START, END, len(moved)), pa.timestamp("us", "UTC")),
        "field": ["team"] * len(moved),
        "old_value": [names[number] for number in (team[moved] + 1) % teams],
        "new_value": [names[number] for number in team[moved]],
    }
    history = frame_of("user_history", moves).assign(_sequence=np.arange(len(moved), dtype="float64"))
    return frame_of("users", users), history


def ids_of(prefix: str, numbers: np.ndarray, digits: int) -> pa.Array:
    """A prefix and a number with leading zeros."""
    written = pc.utf8_lpad(pa.array(numbers).cast(pa.large_string()), digits, "0")
    return pc.binary_join_element_wise(pa.scalar(prefix, pa.large_string()), written, pa.scalar("", pa.large_string()))


def texts(names: list[str], places: np.ndarray) -> pa.Array:
    """The name at each place."""
    return pa.array(names, pa.large_string()).take(pa.array(places))


def frame_of(table: str, given: dict[str, object]) -> pd.DataFrame:
    """A table in the contract's columns and types; what is not given is empty."""
    whole = empty_frame(table)
    made = pa.table(given).to_pandas()
    return made.reindex(columns=whole.columns).astype(whole.dtypes)
