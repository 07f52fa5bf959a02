"""From a table's rows of text to typed rows; what breaks a rule goes to quarantine with that rule."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from crm.calendar import DATE_PATTERN, Calendar
from crm.contract import TableSpec
from crm.reading import RawTable
from crm.values import DTYPES, Kind, infer_kind, parse_values

# Rows that tell of something after the data's moment are refused by these columns; activities may be planned ahead.
KNOWN_SINCE = {
    "deals": "created_at",
    "deal_history": "changed_at",
    "user_history": "changed_at",
    "forecast_calls": "submitted_at",
    "leads": "created_at",
}
MISSING = "required, but empty"


@dataclass(frozen=True)
class Delivered:
    """The good rows of a file, typed, and the refused ones.

    Attributes
    ----------
    frame : typed rows with the columns of the file, in file order.
    read, refused : rows in the file, and those of them that were refused.
    quarantine : row, column, value, rule, then the original row as it stood; one line per problem.
    """

    frame: pd.DataFrame
    read: int
    refused: int
    quarantine: list[list[str]]


def type_rows(raw: RawTable, calendar: Calendar, as_of: pd.Timestamp, custom_kinds: dict[str, Kind]) -> Delivered:
    """Type a table's rows and set aside those that break a rule.

    Parameters
    ----------
    as_of : the data's moment; rows that tell of something later are refused.
    custom_kinds : what is already known of the table's custom fields. A field whose values no longer fit its kind
        becomes text, and the caller widens what it has stored.
    """
    typed: dict[str, pd.Series] = {}
    problems: list[tuple[str, pd.Series]] = list(raw.refused)
    told = {name: rules.notna() for name, rules in raw.refused}
    for name in raw.text.columns:
        column = raw.spec.columns.get(name)
        kind = column.kind if column else _custom_kind(raw.text[name], custom_kinds.get(name), calendar)
        parsed = parse_values(raw.text[name], kind, calendar)
        typed[name] = parsed.values
        problems.append((name, parsed.problems))
        if column and column.required:
            blank = _is_blank(raw.text[name], kind)
            problems.append((name, _rule_where(blank & ~told[name] if name in told else blank, MISSING)))
    frame = pd.DataFrame(typed, index=raw.text.index)
    if raw.spec.name == "deals" and "closed_at" in frame:
        frame = _book_on_the_day_given(frame, raw.text["closed_at"], calendar)
    problems += _row_problems(raw.spec, frame, as_of)
    refused = np.zeros(len(frame), dtype=bool)
    for _, rules in problems:
        refused |= rules.notna().to_numpy()
    problems.append(_repeated_keys(raw.spec, frame[~refused]))
    refused[problems[-1][1].index[problems[-1][1].notna()]] = True
    good = frame[~refused].reset_index(drop=True)
    return Delivered(
        good, len(frame) + len(raw.broken), int(refused.sum()) + len(raw.broken), _quarantine_lines(raw, problems)
    )


def kind_of(column: pd.Series) -> Kind | None:
    """The kind a stored custom field has; None for one without a single value."""
    if column.isna().all():
        return None
    kinds: dict[str, Kind] = {dtype: kind for kind, dtype in DTYPES.items() if kind in ("text", "instant", "date")}
    kinds |= {"float64": "number", "boolean": "boolean"}
    return kinds[str(column.dtype)]


def _custom_kind(text: pd.Series, stored: Kind | None, calendar: Calendar) -> Kind:
    if stored is None:
        return infer_kind(text, calendar) or "text"
    return stored if parse_values(text, stored, calendar).problems.isna().all() else "text"


def _rule_where(broken: pd.Series, rule: str) -> pd.Series:
    return pd.Series(rule, index=broken.index, dtype="str").where(broken)


def _is_blank(text: pd.Series, kind: Kind) -> pd.Series:
    return text.isna() if kind == "text" else text.isna() | (text.str.strip() == "")


def _book_on_the_day_given(frame: pd.DataFrame, closed_at: pd.Series, calendar: Calendar) -> pd.DataFrame:
    """A closing given as a day is booked on that day, whatever time zone the calendar has later."""
    day = closed_at.str.strip()
    given = parse_values(day.where(day.str.match(DATE_PATTERN).fillna(False).astype(bool)), "date", calendar).values
    if given.isna().all():
        return frame
    return frame.assign(booked_on=frame["booked_on"].fillna(given) if "booked_on" in frame else given)


def _row_problems(spec: TableSpec, frame: pd.DataFrame, as_of: pd.Timestamp) -> list[tuple[str, pd.Series]]:
    found = []
    if spec.name in KNOWN_SINCE:
        since = KNOWN_SINCE[spec.name]
        rule = f"later than the data's moment, {as_of:%Y-%m-%dT%H:%M:%SZ}"
        found.append((since, _rule_where(frame[since] > as_of, rule)))
    if spec.name == "exchange_rates":
        found.append(("rate_to_base", _rule_where(frame["rate_to_base"] <= 0, "a rate is above 0")))
    if spec.name == "periods":
        ends_early = frame["period_end"] <= frame["period_start"]
        found.append(("period_end", _rule_where(ends_early, "a period ends after it starts")))
    return found


def _repeated_keys(spec: TableSpec, frame: pd.DataFrame) -> tuple[str, pd.Series]:
    """The last row of a key stands; earlier ones that say something else are refused, mere copies are dropped later."""
    key = [name for name in spec.key if name in frame]
    if not key:
        return "", _rule_where(pd.Series(False, index=frame.index), "")
    earlier = frame.duplicated(key, keep="last") & ~frame.duplicated(keep="last")
    return key[0], _rule_where(earlier, f"a later row has the same {', '.join(key)}; the last one stands")


def quarantine_header(raw: RawTable) -> list[str]:
    """The columns of a table's quarantine file."""
    file = [] if raw.origin is None else ["file"]
    return ["row", "column", "value", "rule", *file, *raw.as_it_stood.columns]


def _quarantine_lines(raw: RawTable, problems: list[tuple[str, pd.Series]]) -> list[list[str]]:
    files = [[]] * len(raw.broken) if raw.origin is None else [[file] for file in raw.origin.broken_files]
    lines = [
        [str(row), "", "", rule, *file, *fields] for (row, fields, rule), file in zip(raw.broken, files, strict=True)
    ]
    for column, rules in problems:
        broken = rules.dropna()
        if broken.empty:
            continue
        stood = raw.as_it_stood.loc[broken.index]
        originals = stood.astype(object).where(stood.notna(), "")
        if raw.origin is not None:
            for place, rule, original in zip(broken.index, broken, originals.itertuples(index=False), strict=True):
                cell = raw.origin.cell(place, column)
                lines.append([str(raw.rows[place]), *cell, rule, raw.origin.files[place], *original])
            continue
        values = originals[column] if column in originals else pd.Series("", index=broken.index)
        for row, value, rule, original in zip(
            raw.rows[broken.index], values, broken, originals.itertuples(index=False), strict=True
        ):
            lines.append([str(row), column, value, rule, *original])
    return sorted(lines, key=lambda line: int(line[0]))
