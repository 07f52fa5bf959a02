"""A mapping proposed from the data, for review: known exports by their files, others by names and looks of columns.

Nothing is decided that the data cannot tell: which stages are closed or won, or whether 03/04 is in March, stays to do.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from crm.calendar import Calendar
from crm.contract import TABLES, TableSpec
from crm.errors import DataUnusable, Detail, UsageError
from crm.mapping import TODO, TableMapping, load_mapping, shipped_mappings
from crm.mapping_looks import Looks, filled_for_some, looks_like
from crm.mapping_names import FILES, NAMES
from crm.mapping_tables import SUFFIXES, MappedFolder
from crm.reading import read_as_text
from crm.values import infer_kind

MOST_STAGES = 60


@dataclass(frozen=True)
class Proposal:
    """A mapping file's text; the name of the export if it is a known one; how many places are left to fill in."""

    text: str
    shape: str | None
    to_do: int


@dataclass(frozen=True)
class _File:
    name: str
    text: pd.DataFrame
    delimiter: str


def propose_mapping(folder: Path) -> Proposal:
    """Propose a mapping for a folder of CSV and Parquet files.

    Raises
    ------
    UsageError : not a folder.
    DataUnusable : it holds no table, or one that cannot be read.
    """
    if not folder.is_dir():
        detail = Detail(str(folder), None, "PATH is a folder of CSV or Parquet files", "Name the folder of the export.")
        raise UsageError(f"{folder} is not a folder.", detail)
    files = [_read(path) for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    files = [file for file in files if len(file.text)]
    if not files:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        detail = Detail(
            str(folder), found, "there is a CSV or Parquet file with rows", "Name the folder of the export."
        )
        raise DataUnusable(f"{folder} holds no table.", detail)
    known = _recognised(folder)
    lines = _known(folder, known) if known else _guessed(files)
    text = "\n".join(lines) + "\n"
    return Proposal(text, known, text.count(f'"{TODO}'))


def _read(path: Path) -> _File:
    delimiter = ","
    if path.suffix.lower() == ".csv":
        with path.open("rb") as file:
            header = file.readline().decode("utf-8", "replace")
        delimiter = max(",;\t|", key=header.count)
    return _File(path.name, read_as_text(path, TableSpec(path.stem, "", {}, ()), delimiter=delimiter).text, delimiter)


# -- exports known by name -------------------------------------------------------------------------------------------


def _recognised(folder: Path) -> str | None:
    """The shipped mapping whose deals are there with all they need; of several the one that finds most."""
    found = {}
    for name in shipped_mappings():
        mapping = load_mapping(name)
        reader = MappedFolder(folder, mapping, Calendar("XXX"))
        try:
            if "deals" in reader.tables() and "deals" in mapping.tables:
                found[name] = sum(len(reader.read(table).text.columns) for table in reader.tables())
        except DataUnusable:
            continue
    return max(found, key=lambda name: found[name], default=None)


def _known(folder: Path, name: str) -> Iterator[str]:
    mapping = load_mapping(name)
    reader = MappedFolder(folder, mapping, Calendar("XXX"))
    unread = [
        f"{int(rules.notna().sum()):,} values of {table}.{column} are not written as [formats] says"
        for table in reader.tables()
        for column, rules in reader.read(table).refused
    ]
    yield f"# Recognised: {name}. This is the mapping that comes with dealcast, to be reviewed and changed."
    yield "#"
    yield from (f"# {note['what']}: {note['because']}" for note in reader.notes)
    yield from (f"# {file}: is not read" for file in reader.ignored_files())
    yield from (f"# {told}" for told in unread)
    deals = reader.read("deals")
    assert deals.origin is not None
    stood = deals.origin.text[[each for each in deals.origin.text if "." not in str(each)]]
    mapped = set(_columns_read(mapping))
    yield "#"
    yield "# Columns of the deals that are not imported; put under deals.columns what is known before the closing:"
    for column in stood:
        if column not in mapped and stood[column].notna().any():
            yield f"#   {_quoted(column)}{_remark(stood[column], deals.text['stage'])}"
    yield ""
    text = shipped_mappings()[name].read_text("utf-8").rstrip()
    if "stages" in reader.tables() or {"is_closed", "is_won"} <= set(deals.text.columns):
        yield text
    else:
        yield re.sub(r"\[stages\]\n.*?(?=\n\[(?!stages))", "", text, flags=re.DOTALL)
        yield from ("", *_stages(deals.text["stage"]))


def _columns_read(mapping: TableMapping) -> Iterator[str]:
    for source in mapping.tables["deals"]:
        yield from (str(rule.column) for rules in source.columns.values() for rule in rules)
        yield from (name for rules in source.columns.values() for rule in rules for name in rule.when)
        yield from (*source.where, *(name for join in source.join.values() for name in join.on))


# -- others ----------------------------------------------------------------------------------------------------------


def _guessed(files: list[_File]) -> Iterator[str]:
    deals = max(
        files, key=lambda file: sum(2 if need in TABLES["deals"].required else 1 for need in _matched(file, "deals"))
    )
    yield "# Proposed from the names of the columns and the look of their values: every line is a guess to be checked."
    yield f"# Fill in each {TODO}; the import refuses until then. docs/mapping.md tells what can be written here."
    yield ""
    yield "[calendar]"
    yield "# as_of = 2026-01-31               # the export's moment; by default when the import runs"
    yield '# time_zone = "Europe/Amsterdam"   # days and periods begin at its midnights'
    yield '# base_currency = "EUR"'
    yield "# stable_fields = []               # fields that closing never overwrites"
    yield from ("", *_formats(deals))
    yield from _deals(deals)
    rest = [file for file in files if file is not deals]
    for table, words in FILES.items():
        for file in rest:
            matched = _matched(file, table)
            named = any(word in file.name.lower() for word in words.split())
            if named and all(column in matched for column in TABLES[table].required):
                yield from ("", *_section(table, file, [_line(*each) for each in matched.items()]))
                rest = [other for other in rest if other is not file]
                break
    for file in rest:
        shared = [_quoted(name) for name in file.text if name in deals.text and file.text[name].is_unique]
        hint = f"; it could be joined to the deals by {', '.join(shared)}" if shared else ""
        yield f"# {file.name}: no table was recognised in it{hint}"


def _formats(deals: _File) -> list[str]:
    if deals.delimiter == ",":
        return []
    return ["[formats]", f"delimiter = {_quoted(deals.delimiter)}", ""]


def _deals(file: _File) -> Iterator[str]:
    matched = _matched(file, "deals")
    stages = file.text[matched["stage"][0]] if "stage" in matched else None
    lines, outcome = [], []
    for needed in ("deal_id", "created_at", "stage"):
        if needed not in matched:
            lines.append(f'{needed} = "{TODO}"{_missing(needed)}')
    for column, (name, looks) in matched.items():
        told = [] if stages is None or column == "stage" else filled_for_some(file.text[name], stages)
        if told and column == "close_date" and "closed_at" not in matched:
            lines.append(
                _line("closed_at", (name, looks))
                + f": filled for {', '.join(map(_quoted, told))} only, so the day of closing"
            )
        elif told and column not in ("created_at", "closed_at", "is_closed", "is_won"):
            outcome.append(f"# {_line(column, (name, looks))}{_outcome(told)}")
        else:
            lines.append(_line(column, (name, looks)))
    used = {name for name, _ in matched.values()}
    custom = [
        f"# {_quoted(name)} = {_quoted(name)}{_remark(file.text[name], stages)}"
        for name in file.text
        if name not in used and file.text[name].notna().any()
    ]
    if custom:
        custom.insert(0, "# Custom fields: take the # away from those that are known before the closing.")
    yield from _section("deals", file, [*lines, *outcome, *custom])
    if stages is not None and not {"is_closed", "is_won"} <= matched.keys():
        yield from ("", *_stages(stages))


def _missing(needed: str) -> str:
    why = {
        "deal_id": "no column tells the deals apart: without it no deal can be followed",
        "created_at": "no column looks like the day a deal began: without it nothing can be learnt from the past",
        "stage": "no column looks like a stage",
    }
    return f"  # {why[needed]}"


def _stages(stages: pd.Series) -> Iterator[str]:
    yield "# Names do not tell which stages are closed and won: fill in true or false, and put them in their order."
    yield "[stages]"
    yield "rows = ["
    for count, stage in enumerate(stages.value_counts().index[:MOST_STAGES], start=1):
        told = f'is_closed = "{TODO}", is_won = "{TODO}"'
        yield f"    {{ stage = {_quoted(stage)}, sort_order = {count}, {told} }},"
    yield "]"


def _section(table: str, file: _File, lines: list[str]) -> list[str]:
    return [f"[{table}]", f"file = {_quoted(file.name)}", "", f"[{table}.columns]", *lines]


def _matched(file: _File, table: str) -> dict[str, tuple[str, Looks]]:
    """By column of the table the column of the file that is named like it and looks like it."""
    named: dict[str, str] = {}
    for name in file.text:
        named.setdefault(_plain(str(name)), str(name))
    found: dict[str, tuple[str, Looks]] = {}
    for column, names in NAMES[table].items():
        spec = TABLES[table].columns[column]
        for name in (named[each] for each in names.split() if each in named):
            values = file.text[name]
            taken = name in {other for other, _ in found.values()} and spec.kind != "text"
            looks = None if taken else looks_like(values, spec.kind)
            is_key = column in TABLES[table].key
            if looks and not (is_key and (values.isna().any() or not values.is_unique)):
                found[column] = (name, looks)
                break
    if table == "deals" and "deal_id" not in found:
        keys = [name for plain, name in named.items() if plain.endswith("_id") and file.text[name].notna().all()]
        if keys and file.text[keys[0]].is_unique:
            found["deal_id"] = (keys[0], Looks())
    return found


def _line(column: str, matched: tuple[str, Looks]) -> str:
    name, looks = matched
    if looks.in_doubt:
        key = "format" if looks.in_doubt[0].startswith("%") else "decimal"
        doubt = f"{TODO}: {' or '.join(looks.in_doubt)}"
        return f"{column} = {{ column = {_quoted(name)}, {key} = {_quoted(doubt)} }}  # values fit both"
    if looks.settings:
        settings = ", ".join(
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in looks.settings.items()
        )
        return f"{column} = {{ column = {_quoted(name)}, {settings} }}  # guessed by name and look"
    return f"{column} = {_quoted(name)}  # guessed by name"


def _remark(values: pd.Series, stages: pd.Series | None) -> str:
    told = [] if stages is None else filled_for_some(values, stages)
    if told:
        return f"  #{_outcome(told)}"
    kind = infer_kind(values, Calendar("XXX"))
    return f"  # {kind}, {values.nunique():,} values, {values.notna().mean():.0%} filled"


def _outcome(stages: list[str]) -> str:
    return f" filled for {', '.join(map(_quoted, stages))}, hardly for others: it may tell the outcome"


def _plain(name: str) -> str:
    """`CloseDate` and `Close Date` as `close_date`."""
    return re.sub(r"\W+", "_", re.sub(r"(?<=[a-z\d])(?=[A-Z])", "_", name)).strip("_").lower()


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
