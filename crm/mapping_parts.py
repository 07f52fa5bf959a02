"""Rows of a table made from one file of an export, and such parts put under one another as one table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from crm.contract import TableSpec
from crm.mapping_language import Rule
from crm.mapping_values import Formats, Rewritten, rewrite_values
from crm.reading import Origin, RawTable
from crm.values import Kind


@dataclass(frozen=True)
class Part:
    """Rows of a table made from one file.

    Attributes
    ----------
    text : the table's columns, index = place in `stood`.
    stood : the rows as they stood in the file; `rows` their lines.
    columns : by column of the table the columns it was made from.
    refused : (column, rules) of values that could not be rewritten.
    """

    file: str
    text: pd.DataFrame
    stood: pd.DataFrame
    rows: np.ndarray
    columns: Mapping[str, tuple[str, ...]]
    refused: tuple[tuple[str, pd.Series], ...] = ()
    broken: tuple[tuple[int, list[str], str], ...] = ()


def reworded(text: pd.Series, rule: Rule, kind: Kind, formats: Formats, calendar: Calendar) -> Rewritten:
    """A column's values by its rule: words that `values` lists are taken from there, the others rewritten."""
    words = text.str.strip().map(rule.values) if rule.values else nothing_in(text.index)
    listed = text.str.strip().isin(list(rule.values))
    done = rewrite_values(text.mask(listed), kind, formats, calendar)
    return Rewritten(done.text.where(~listed, words.mask(words == "")).astype("str"), done.problems)


def nothing_in(index: pd.Index) -> pd.Series:
    """Empty text for every row."""
    return pd.Series(np.nan, index=index, dtype="str")


def only_rows(part: Part, kept: pd.Series) -> Part:
    """The part with some of its rows."""
    refused = tuple((column, rules[kept]) for column, rules in part.refused)
    rows = part.rows[kept.to_numpy()]
    return replace(part, text=part.text[kept], stood=part.stood[kept], rows=rows, refused=refused)


def stacked(spec: TableSpec, parts: list[Part]) -> RawTable:
    """The parts of a table under one another, in the order of the rows of each file."""
    if not parts:
        return RawTable(spec, spec.name, pd.DataFrame(columns=list(spec.required), dtype="str"), np.array([], "int64"))
    order = _in_order(parts)
    text = pd.concat([part.text for part in parts], ignore_index=True).astype("str").iloc[order].reset_index(drop=True)
    stood = pd.concat([part.stood for part in parts], ignore_index=True).iloc[order].reset_index(drop=True)
    numbers = np.repeat(np.arange(len(parts)), [len(part.text) for part in parts])[order]
    refused = []
    for column in dict.fromkeys(column for part in parts for column, _ in part.refused):
        rules = [_rules(part, column) for part in parts]
        refused.append((column, pd.concat(rules, ignore_index=True).astype("str").iloc[order].reset_index(drop=True)))
    origin = Origin(
        files=np.array([part.file for part in parts], dtype=object)[numbers],
        text=stood,
        part=numbers,
        columns=tuple(part.columns for part in parts),
        broken_files=tuple(part.file for part in parts for _ in part.broken),
    )
    return RawTable(
        spec=spec,
        file=", ".join(dict.fromkeys(part.file for part in parts)),
        text=text,
        rows=np.concatenate([part.rows for part in parts])[order],
        broken=tuple(line for part in parts for line in part.broken),
        origin=origin,
        refused=tuple(refused),
    )


def _in_order(parts: list[Part]) -> np.ndarray:
    """Where the parts' rows belong: file after file, within a file by row."""
    files = list(dict.fromkeys(part.file for part in parts))
    place = np.repeat([files.index(part.file) for part in parts], [len(part.rows) for part in parts])
    return np.lexsort([np.concatenate([part.rows for part in parts]), place])


def _rules(part: Part, column: str) -> pd.Series:
    """The rules that a part's values of a column break."""
    rules = nothing_in(part.text.index)
    for name, found in part.refused:
        rules = rules.fillna(found) if name == column else rules
    return rules
