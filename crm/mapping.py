"""Reading a mapping file: which of a CRM's own files, columns and words make the tables of an import, said in TOML.

`crm.mapping_language` holds what may be said, `crm.mapping_tables` applies it.
"""

import datetime
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crm.calendar import Calendar
from crm.contract import TABLES
from crm.errors import DataUnusable, Detail, UsageError
from crm.mapping_language import HISTORIES, Document, Rule, Source
from crm.mapping_values import Formats
from crm.reading import HIDDEN_COLUMNS
from crm.values import Kind

TODO = "TODO"
GUIDE = "See docs/mapping.md."


@dataclass(frozen=True)
class TableMapping:
    """What a mapping file says.

    Attributes
    ----------
    name : of the file, for messages.
    calendar : its section of that name, as `calendar.json` would hold it.
    formats : how values are written unless a source or a column says otherwise.
    partial : files and columns that are not there are left out and named, instead of refused.
    tables : the sources of every table.
    """

    name: str
    calendar: Mapping[str, object]
    formats: Formats
    partial: bool
    tables: Mapping[str, tuple[Source, ...]]


def shipped_mappings() -> dict[str, Path]:
    """The mapping files that come with dealcast, by the name they are asked for."""
    folder = Path(str(resources.files("crm") / "mappings"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_mapping(named: str) -> TableMapping:
    """Read a mapping file, or the shipped one of that name.

    Raises
    ------
    UsageError
        If there is no such file, it is not TOML, or what it says cannot be understood; with every place and its rule.
    """
    path = Path(named)
    if not path.is_file():
        shipped = shipped_mappings()
        if named not in shipped:
            rule = f"a TOML file, or one of {', '.join(shipped)}"
            next_step = "Name one of them, or have one proposed: dealcast map PATH --out mapping.toml"
            raise UsageError(f"There is no mapping {named}.", Detail("--mapping", named, rule, next_step))
        path = shipped[named]
    try:
        return parse_mapping(path.read_text("utf-8-sig"), path.name)
    except (UnicodeDecodeError, OSError) as error:
        detail = Detail(path.name, None, f"a mapping is a text file in UTF-8: {error}", "Save it as UTF-8.")
        raise UsageError(f"{path} cannot be read.", detail) from error


def parse_mapping(text: str, name: str) -> TableMapping:
    """The mapping that a TOML text says; `name` is what messages call it.

    Raises
    ------
    UsageError : see `load_mapping`.
    """
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        detail = Detail(name, None, f"a mapping is written in TOML: {error}", f"Correct that place. {GUIDE}")
        raise UsageError(f"{name} is not TOML.", detail) from None
    to_do = [
        Detail(f"{name}, {place}", value, "only you can know this", "Write what it is in place of the TODO.")
        for place, value in _to_do(given, "")
    ]
    if to_do:
        raise UsageError(f"{name} has {len(to_do)} places left to fill in.", *to_do)
    own = {key: given.pop(key) for key in ("calendar", "formats", "partial") if key in given}
    unknown = [key for key in given if key not in TABLES]
    if unknown:
        rule = f"the sections are calendar, formats, partial and the tables {', '.join(TABLES)}"
        details = [Detail(f"{name}, {key}", None, rule, f"Rename or remove it. {GUIDE}") for key in unknown]
        raise UsageError(f"{name} has sections that are not known.", *details)
    tables = {table: said if isinstance(said, list) else [said] for table, said in given.items()}
    try:
        document = Document.model_validate({**own, "tables": tables})
    except ValidationError as error:
        details = [_detail(name, dict(one), given) for one in error.errors()]
        raise UsageError(f"{name} cannot be understood.", *details) from None
    problems = [*_calendar_problems(name, document.calendar), *_problems(name, document.tables)]
    if problems:
        raise UsageError(f"{name} cannot be used.", *problems)
    formats = document.formats.over(Formats())
    calendar = {key: _calendar_value(value) for key, value in document.calendar.items()}
    return TableMapping(name, calendar, formats, document.partial, document.tables)


def _to_do(said: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(said, dict):
        for key, value in said.items():
            yield from _to_do(value, f"{place}.{key}" if place else key)
    elif isinstance(said, list):
        for count, value in enumerate(said, start=1):
            yield from _to_do(value, f"{place}[{count}]")
    elif isinstance(said, str) and said.startswith(TODO):
        yield place, said


def _detail(name: str, error: Mapping[str, Any], given: Mapping[str, object]) -> Detail:
    place = ""
    for part in error["loc"]:
        place += f"[{part + 1}]" if isinstance(part, int) else f".{part}"
    place = place.removeprefix(".tables").lstrip(".")
    # A section or rule that stands alone was not written as a list.
    table = place.split("[")[0]
    if isinstance(given.get(table), dict):
        place = place.replace(f"{table}[1]", table, 1)
    place = re.sub(r"(\.columns\.[^.\[]+)\[1\]", r"\1", place)
    seen = error["input"]
    value = None if isinstance(seen, dict | list | tuple) or seen is None else str(seen)
    rule = str(error["msg"]).removeprefix("Value error, ")
    for theirs, ours in (("dictionary", "table"), ("tuple", "list"), ("string", "text")):
        rule = rule.replace(f"Input should be a valid {theirs}", f"it is a {ours}")
    return Detail(f"{name}, {place}", value, rule, f"Correct it. {GUIDE}")


def _calendar_value(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime.date) else value


def _calendar_problems(name: str, section: Mapping[str, object]) -> list[Detail]:
    written = {key: _calendar_value(value) for key, value in section.items()}
    as_of = written.pop("as_of", None)
    if "listed_periods" in written:
        return [
            Detail(f"{name}, calendar.listed_periods", None, "periods are a table", f"Map the table periods. {GUIDE}")
        ]
    try:
        calendar = Calendar.from_dict({"base_currency": "XXX"} | written)
        if as_of is not None:
            calendar.parse_moment(str(as_of))
    except (DataUnusable, UsageError) as error:
        where = f"{name}, calendar."
        return [
            replace(
                detail,
                where=where + detail.where.replace("calendar.json, ", "").replace("moment", "as_of"),
                next_step="Correct it. " + GUIDE,
            )
            for detail in error.details
        ]
    return []


def _problems(name: str, tables: Mapping[str, tuple[Source, ...]]) -> Iterator[Detail]:
    """What one look at the whole tells: columns that lack, and keys that say nothing where they stand."""
    for table, sources in tables.items():
        for count, source in enumerate(sources, start=1):
            place = f"{name}, {table}" + (f"[{count}]" if len(sources) > 1 else "")
            for where, rule in [*_source_problems(table, source), *_column_problems(table, source)]:
                yield Detail(f"{place}{where}", None, rule, f"Correct it. {GUIDE}")


def _source_problems(table: str, source: Source) -> Iterator[tuple[str, str]]:
    if bool(source.file) == bool(source.rows):
        yield "", "the rows come from one of file and rows"
    if source.rows and (source.columns or source.where or source.join):
        yield ".rows", "rows written here are rows of the table: they need no columns, where or join"
    if (source.fields or source.versions) and table not in HISTORIES:
        yield "", f"fields and versions belong to {' and '.join(HISTORIES)}"
    if source.fields and source.versions:
        yield "", "one of fields (a row is a change) and versions (a row is a whole state)"
    required = TABLES[table].required
    given = set(source.columns) | ({"field"} if source.versions else set())
    missing = [column for column in required if column not in given]
    if missing and not source.rows:
        yield ".columns", f"{', '.join(missing)}: required in {table}"
    for count, row in enumerate(source.rows, start=1):
        if lacking := [column for column in required if column not in row]:
            yield f".rows[{count}]", f"{', '.join(lacking)}: required in {table}"
    told_before = any(rule.previous for rule in source.columns.get("old_value", ()))
    if (source.fields or told_before) and "new_value" not in source.columns:
        yield ".columns", "new_value: what the field changed to"
    for column in source.since:
        if column not in source.columns or kind_of_column(table, column, source.columns[column]) not in (
            "date",
            "instant",
        ):
            yield f".since.{column}", "a day or moment of this table's columns"
        elif not _is_day(source.since[column]):
            yield f".since.{column}", "a day, YYYY-MM-DD"
    if source.versions and {"field", "old_value", "new_value"} & source.columns.keys():
        yield ".columns", "versions tells field, old_value and new_value itself"


def _column_problems(table: str, source: Source) -> Iterator[tuple[str, str]]:
    for column, rules in source.columns.items():
        if column in HIDDEN_COLUMNS or not column.strip():
            yield f".columns.{column}", "the name is used by dealcast itself"
        if TABLES[table].columns.get(column) and any(rule.kind for rule in rules):
            yield f".columns.{column}.kind", f"its kind is known: {TABLES[table].columns[column].kind}"
        kind = kind_of_column(table, column, rules)
        for rule in rules:
            if rule.previous and (table not in HISTORIES or column != "old_value"):
                yield (
                    f".columns.{column}.previous",
                    f"only the old_value of {' and '.join(HISTORIES)} is the one before",
                )
            if rule.format and kind not in ("date", "instant"):
                yield (
                    f".columns.{column}.format",
                    "a format belongs to a date or an instant; say kind for a custom field",
                )
            if (rule.decimal or rule.thousands or rule.times or rule.units) and kind not in (
                "number",
                "integer",
                "share",
            ):
                yield f".columns.{column}", "decimal, thousands, units and times belong to numbers; say kind"


def kind_of_column(table: str, column: str, rules: tuple[Rule, ...]) -> Kind:
    """The kind of value a column is mapped to: the contract's, else what the mapping says, else text as it stands."""
    known = TABLES[table].columns.get(column)
    return known.kind if known else next((rule.kind for rule in rules if rule.kind), "text")


def _is_day(text: str) -> bool:
    try:
        return bool(datetime.date.fromisoformat(text))
    except ValueError:
        return False
