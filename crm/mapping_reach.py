"""What a mapping needs of a CRM's own tables, for those who fetch them, and custom fields added to a shipped one."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from crm.mapping import TableMapping
from crm.mapping_language import Rule, Source


def columns_read(mapping: TableMapping) -> dict[tuple[str, ...], list[str]]:
    """The columns that a mapping reads, by the names that a table may have, in the order in which they are named."""
    found: dict[tuple[str, ...], dict[str, None]] = {}
    for source in (each for sources in mapping.tables.values() for each in sources if each.file):
        for names, column in _columns_of(source):
            found.setdefault(names, {})[column] = None
    return {names: list(columns) for names, columns in found.items()}


def _columns_of(source: Source) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every column that is read for a source, with the names of its table."""
    said = [*source.where, *source.versions]
    for rules in source.columns.values():
        for rule in rules:
            said += [*([rule.column] if rule.column else []), *rule.when]
    for join in source.join.values():
        said += join.on
        yield from ((join.file, column) for column in (*join.on.values(), *join.where))
    for column in said:
        name, point, rest = column.partition(".")
        yield (source.join[name].file, rest) if point and name in source.join else (source.file, column)


def joined_only(mapping: TableMapping) -> set[tuple[str, ...]]:
    """The names of the tables that other tables' rows are completed from, and no rows are made of."""
    sources = [each for group in mapping.tables.values() for each in group if each.file]
    return {join.file for source in sources for join in source.join.values()} - {source.file for source in sources}


def with_custom_fields(mapping: TableMapping, fields: Iterable[str]) -> TableMapping:
    """The mapping with fields of the CRM's deals as custom fields of the same name, their history included."""
    names = {name: (Rule(column=name),) for name in fields}
    if not names:
        return mapping
    tables = dict(mapping.tables)
    tables["deals"] = tuple(_with(each, columns={**each.columns, **names}) for each in tables["deals"])
    changes = {name: name for name in names}
    # Of several logs made of one table the first holds whatever the others pick out.
    logged: set[tuple[str, ...]] = set()
    histories = []
    for source in tables.get("deal_history", ()):
        if source.versions:
            source = _with(source, versions={**source.versions, **changes})
        elif source.fields and source.file not in logged:
            source = _with(source, fields={**source.fields, **changes})
            logged.add(source.file)
        histories.append(source)
    return replace(mapping, tables={**tables, "deal_history": tuple(histories)})


def _with(source: Source, **changed: object) -> Source:
    return source.model_copy(update=changed)
