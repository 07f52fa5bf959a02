"""A folder as a CRM exported it, read through a mapping: the rows that an import takes in, and where each one stood."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from crm.calendar import Calendar
from crm.contract import TABLES, ColumnSpec, TableSpec
from crm.errors import DataUnusable, Detail
from crm.mapping import TableMapping, kind_of_column
from crm.mapping_history import Changes, changes_between_versions, old_values, told_again, with_first_values_dated
from crm.mapping_language import HISTORIES, Conditions, Join, Rule, Source
from crm.mapping_parts import Part, nothing_in, only_rows, reworded, stacked
from crm.mapping_values import Formats, Rewritten
from crm.reading import RawTable, read_as_text
from crm.values import Kind, parse_values

SUFFIXES = (".csv", ".parquet")


@dataclass
class MappedFolder:
    """A folder and the mapping it is read through.

    Attributes
    ----------
    notes : {"what", "because"} for whatever the mapping names that is not there, and rows that it left out.
    """

    folder: Path
    mapping: TableMapping
    calendar: Calendar
    notes: list[dict[str, str]] = field(default_factory=list)
    _files: dict[Path, RawTable] = field(default_factory=dict)
    _tables: dict[str, RawTable] = field(default_factory=dict)

    def tables(self) -> list[str]:
        """The tables that the mapping makes of what is there, deals first: their histories need them."""
        named = [name for name in TABLES if name in self.mapping.tables]
        return [name for name in named if any(self._is_there(name, each) for each in self.mapping.tables[name])]

    def ignored_files(self) -> list[str]:
        """Table files in the folder that the mapping does not read."""
        read = {path.name for path in self._files}
        return sorted(
            path.name for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name not in read
        )

    def read(self, table: str) -> RawTable:
        """The rows of a table, as text that an import reads, with where each stood.

        Raises
        ------
        DataUnusable
            If a file or column that the mapping names is not there, or a file cannot be read.
        """
        if table not in self._tables:
            sources = [source for source in self.mapping.tables[table] if self._is_there(table, source)]
            parts = [part for source in sources for part in self._parts(table, source)]
            self._tables[table] = stacked(TABLES[table], parts)
        return self._tables[table]

    # -- files -------------------------------------------------------------------------------------------------------

    def _note(self, what: str, because: str) -> None:
        note = {"what": what, "because": because}
        if note not in self.notes:
            self.notes.append(note)

    def _find(self, names: tuple[str, ...]) -> Path | None:
        wanted = [
            name if name.lower().endswith(SUFFIXES) else f"{name}{suffix}" for name in names for suffix in SUFFIXES
        ]
        there = {path.name.lower(): path for path in sorted(self.folder.iterdir())}
        return next((there[name.lower()] for name in wanted if name.lower() in there), None)

    def _is_there(self, table: str, source: Source) -> bool:
        if source.rows or self._find(source.file) is not None:
            return True
        if not self.mapping.partial:
            raise self._not_there(
                f"{table}.file", " or ".join(source.file), [path.name for path in self.folder.iterdir()]
            )
        self._note(table, f"there is no file {' or '.join(source.file)}")
        return False

    def _not_there(self, where: str, what: str, instead: list[str]) -> DataUnusable:
        rule = f"it is there; found are: {', '.join(sorted(instead)[:40]) or 'none'}"
        next_step = "Correct the mapping, or export it too."
        return DataUnusable(
            f"{self.mapping.name} names {what}, which is not there.",
            Detail(f"{self.mapping.name}, {where}", what, rule, next_step),
        )

    def _file(self, path: Path, formats: Formats) -> RawTable:
        if path not in self._files:
            spec = TableSpec(path.stem, "", self._identifiers(path), ())
            raw = read_as_text(path, spec, delimiter=formats.delimiter, encoding=formats.encoding)
            self._files[path] = raw
        return self._files[path]

    def _identifiers(self, path: Path) -> dict[str, ColumnSpec]:
        """What kind each column of a Parquet file is mapped to; identifiers never become numbers."""
        kinds: dict[str, Kind] = {}
        for table, source in ((name, each) for name, sources in self.mapping.tables.items() for each in sources):
            for join in source.join.values():
                if self._find(source.file) == path:
                    kinds |= dict.fromkeys(join.on, "id")
                if self._find(join.file) == path:
                    kinds |= dict.fromkeys(join.on.values(), "id")
            if self._find(source.file) == path:
                for column, rules in source.columns.items():
                    for rule in rules:
                        if rule.column is not None and kinds.get(rule.column) != "id":
                            kinds[rule.column] = kind_of_column(table, column, rules)
        return {name: ColumnSpec(name, kind, False, "") for name, kind in kinds.items()}

    # -- rows --------------------------------------------------------------------------------------------------------

    def _parts(self, table: str, source: Source) -> Iterator[Part]:
        if source.rows:
            yield self._part_of_rows(source)
            return
        path = self._find(source.file)
        assert path is not None
        formats = source.formats.over(self.mapping.formats)
        raw = self._file(path, formats)
        joined = self._joined(table, raw.text, source, formats)
        rows = joined[self._meets(f"{table}.where", joined, source.where)]
        self._tell_left_out(table, path.name, len(joined) - len(rows), "`where` leaves them out")
        part = Part(path.name, pd.DataFrame(index=rows.index), rows, raw.rows[rows.index], {}, broken=raw.broken)
        missing = self._missing_required(table, part.stood, source)
        if missing:
            if table == "deals" or not self.mapping.partial:
                raise self._not_there(f"{table}.columns", missing, [str(each) for each in part.stood.columns])
            self._note(table, f"{path.name} has no column {missing}, which it needs")
            return
        part = self._with_columns(table, part, source, formats)
        if source.since:
            kept = self._is_since(table, part.text, source)
            self._tell_left_out(table, path.name, int((~kept).sum()), "`since` leaves them out")
            part = only_rows(part, kept)
        yield from self._changes(table, part, source, formats) if table in HISTORIES else [part]

    def _part_of_rows(self, source: Source) -> Part:
        text = pd.DataFrame(list(source.rows), dtype="str")
        text = text.mask(text == "")
        columns = {name: (name,) for name in text}
        return Part(self.mapping.name, text, text, np.arange(1, len(text) + 1), columns)

    def _tell_left_out(self, table: str, file: str, count: int, because: str) -> None:
        if count:
            self._note(table, f"{count:,} rows of {file}: {because}")

    def _joined(self, table: str, rows: pd.DataFrame, source: Source, formats: Formats) -> pd.DataFrame:
        for name, join in source.join.items():
            path = self._find(join.file)
            if path is None:
                if not self.mapping.partial:
                    found = [each.name for each in self.folder.iterdir()]
                    raise self._not_there(f"{table}.join.{name}.file", " or ".join(join.file), found)
                self._note(f"{table}, {name}", f"there is no file {' or '.join(join.file)}")
                continue
            other = self._other(f"{table}.join.{name}", path, join, formats)
            mine = [self._column(f"{table}.join.{name}.on", rows, column) for column in join.on]
            if other is None or any(column is None for column in mine):
                continue
            keys = pd.DataFrame({str(place): column for place, column in enumerate(mine)})
            found_rows = keys.merge(other, how="left", left_on=list(keys), right_on=list(join.on.values()))
            found_rows = found_rows.drop(columns=list(keys)).set_axis(rows.index)
            rows = pd.concat([rows, found_rows.add_prefix(f"{name}.")], axis=1)
        return rows

    def _other(self, where: str, path: Path, join: Join, formats: Formats) -> pd.DataFrame | None:
        """The rows to be joined, one a key."""
        text = self._file(path, formats).text
        if any(self._column(f"{where}.on", text, column) is None for column in join.on.values()):
            return None
        keys = list(join.on.values())
        text = text[self._meets(f"{where}.where", text, join.where)].dropna(subset=keys)
        repeated = text.duplicated(keys)
        if repeated.any():
            self._note(where, f"{int(repeated.sum()):,} rows of {path.name} repeat {', '.join(keys)}: the first stands")
        return text[~repeated]

    def _column(self, where: str, rows: pd.DataFrame, name: str) -> pd.Series | None:
        """A column as it stood; None where a partial mapping may do without."""
        if list(rows.columns).count(name) > 1:
            rule = "each column that is mapped has a name of its own"
            detail = Detail(f"{self.mapping.name}, {where}", name, rule, "Rename one of the columns in the export.")
            raise DataUnusable(f"There are two columns {name}.", detail)
        if name in rows:
            return rows[name]
        if not self.mapping.partial:
            raise self._not_there(where, name, [str(each) for each in rows.columns])
        self._note(where, f"there is no column {name}")
        return None

    def _meets(self, where: str, rows: pd.DataFrame, conditions: Conditions) -> pd.Series:
        """Which rows meet all the conditions; words are compared whatever their case."""
        met = pd.Series(True, index=rows.index)
        for name, condition in conditions.items():
            column = self._column(where, rows, name)
            if column is None:
                continue
            if isinstance(condition, str):
                met &= column.notna() if condition == "filled" else column.isna()
            else:
                words = [word.casefold() for word in condition]
                told = column.fillna("").str.strip().str.casefold()
                beginnings = tuple(word[:-1] for word in words if word.endswith("*"))
                met &= told.isin(words) | told.str.startswith(beginnings)
        return met

    def _is_since(self, table: str, text: pd.DataFrame, source: Source) -> pd.Series:
        kept = pd.Series(True, index=text.index)
        for column, day in source.since.items():
            kind = kind_of_column(table, column, source.columns[column])
            values = parse_values(text[column], kind, self.calendar).values
            first = pd.Timestamp(day) if kind == "date" else self.calendar.midnight(pd.Timestamp(day).date())
            kept &= ~(values < first)
        return kept

    # -- values ------------------------------------------------------------------------------------------------------

    def _missing_required(self, table: str, rows: pd.DataFrame, source: Source) -> str:
        """The columns behind the first required column of a table of which none is there."""
        for column in TABLES[table].required:
            rules = source.columns.get(column, ())
            if rules and not any(rule.constant is not None or rule.column in rows for rule in rules):
                return " or ".join(str(rule.column) for rule in rules)
        return ""

    def _with_columns(self, table: str, part: Part, source: Source, formats: Formats) -> Part:
        text, columns, refused = {}, {}, []
        for column, rules in source.columns.items():
            kind = kind_of_column(table, column, rules)
            where = f"{table}.columns.{column}"
            done = self._value(where, part.stood, rules, kind, formats)
            named = tuple(rule.column for rule in rules if rule.column is not None and rule.column in part.stood)
            if not named and not any(rule.constant is not None or rule.previous for rule in rules):
                continue
            text[column], columns[column] = done.text, named
            if done.problems.notna().any():
                refused.append((column, done.problems))
        frame = pd.DataFrame(text, index=part.stood.index, dtype="str")
        return replace(part, text=frame, columns=columns, refused=tuple(refused))

    def _value(
        self, where: str, rows: pd.DataFrame, rules: tuple[Rule, ...], kind: Kind, formats: Formats
    ) -> Rewritten:
        """The first rule's value that there is."""
        text, problems = nothing_in(rows.index), nothing_in(rows.index)
        for rule in rules:
            met = self._meets(f"{where}.when", rows, rule.when)
            if any(name not in rows for name in rule.when) or rule.previous:
                continue  # without its condition a conditional value is not taken
            if rule.constant is not None:
                text = text.where(text.notna() | problems.notna() | ~met, rule.constant)
                continue
            column = self._column(where, rows, str(rule.column))
            if column is None:
                continue
            done = reworded(column.where(met), rule, kind, rule.over(formats), self.calendar)
            open_still = text.isna() & problems.isna()
            text, problems = text.where(~open_still, done.text), problems.where(~open_still, done.problems)
        return Rewritten(text, problems)

    # -- histories ---------------------------------------------------------------------------------------------------

    def _changes(self, table: str, part: Part, source: Source, formats: Formats) -> Iterator[Part]:
        changes = Changes(HISTORIES[table], self.calendar, self._created_at() if table == "deal_history" else None)
        if source.versions:
            yield from self._versions(table, part, source, formats, changes)
            return
        if source.fields:
            known = part.text["field"].isin(list(source.fields))
            self._tell_left_out(table, part.file, int((~known).sum()), "changes of fields that `fields` does not name")
            part = self._in_our_words(table, only_rows(part, known), source, formats)
        if any(rule.previous for rule in source.columns.get("old_value", ())):
            part = only_rows(part, ~told_again(part.text, changes))
            text = part.text.assign(old_value=old_values(part.text, changes))
            part = replace(part, text=with_first_values_dated(text, changes))
        yield part

    def _in_our_words(self, table: str, part: Part, source: Source, formats: Formats) -> Part:
        """Fields named as ours, their values rewritten as the same column of the table is."""
        text, refused = part.text.copy(), list(part.refused)
        for theirs, ours in source.fields.items():
            rows = part.text.index[part.text["field"] == theirs]
            for column in ("old_value", "new_value"):
                if column in text and len(rows):
                    done = self._as_field(table, ours, text.loc[rows, column], formats)
                    text.loc[rows, column] = done.text
                    refused.append((column, done.problems.reindex(text.index)))
        text["field"] = part.text["field"].map(dict(source.fields))
        refused = [(column, rules) for column, rules in refused if rules.notna().any()]
        return replace(part, text=text, refused=tuple(refused))

    def _versions(self, table: str, part: Part, source: Source, formats: Formats, changes: Changes) -> Iterator[Part]:
        """Rows that are whole states, as the changes between them: one part for each field."""
        unchanged = 0
        for count, (theirs, ours) in enumerate(source.versions.items()):
            column = self._column(f"{table}.versions", part.stood, theirs)
            if column is None:
                continue
            done = self._as_field(table, ours, column, formats)
            states = part.text.assign(field=ours, new_value=done.text)[done.problems.isna()]
            change = changes_between_versions(states, changes)
            unchanged += change.first_seen_later
            columns = {**part.columns, "new_value": (theirs,), "old_value": (theirs,)}
            kept = change.text.index.union(done.problems.dropna().index)
            text = change.text.reindex(kept).fillna(part.text.assign(field=ours).loc[kept])
            refused = tuple((name, rules.loc[kept]) for name, rules in (*part.refused, ("new_value", done.problems)))
            place = part.stood.index.get_indexer(kept)
            broken = part.broken if count == 0 else ()
            yield Part(part.file, text, part.stood.loc[kept], part.rows[place], columns, refused, broken)
        because = "states found later than the beginning: what they were before is not known"
        self._tell_left_out(table, part.file, unchanged, because)

    def _as_field(self, table: str, ours: str, values: pd.Series, formats: Formats) -> Rewritten:
        """A field's values in history, rewritten as the column of the table that they are the past of."""
        of = "deals" if table == "deal_history" else "users"
        rules = next((each.columns[ours] for each in self.mapping.tables.get(of, ()) if ours in each.columns), ())
        kind = kind_of_column(of, ours, rules)
        rule = next((rule for rule in rules if rule.column is not None), Rule(column=ours))
        return reworded(values, rule, kind, rule.over(formats), self.calendar)

    def _created_at(self) -> pd.Series | None:
        """created_at of the deals as text, by deal_id."""
        if "deals" not in self.tables():
            return None
        deals = self.read("deals").text
        return deals.drop_duplicates("deal_id", keep="last").set_index("deal_id")["created_at"]
