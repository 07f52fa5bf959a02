"""A SQL warehouse: CRM tables as Fivetran lands them, read through the shipped mappings, or the contract's own."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, ClassVar

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from crm.connectors.base import Batch, Fetch, Found, OutgoingScore, Row
from crm.contract import TABLES
from crm.errors import Detail, OtherSideFailed, UsageError
from crm.mapping import TableMapping, load_mapping, shipped_mappings
from crm.mapping_reach import columns_read, joined_only, with_custom_fields

SYNCED = "_fivetran_synced"
CONTRACT = "contract"
ROWS_AT_ONCE = 5000
# A load that is under way stamps its rows long before they can be seen.
OVERLAP = pd.Timedelta(6, "h")


@dataclass(frozen=True, kw_only=True)
class WarehouseSettings:
    """Where the tables are.

    Attributes
    ----------
    database : SQLAlchemy URL without a password, such as postgresql+psycopg://reader@host/name.
    tables_in : the schema; empty: the database's own default.
    mapping : name or file of the mapping that reads the tables, or `contract`: they are named like the contract's;
        empty: recognised by the tables.
    also_read : columns of the table of deals to read too, with commas between.
    """

    name: ClassVar[str] = "warehouse"
    secret: ClassVar[str] = "password"
    needs_secret: ClassVar[bool] = False
    database: str
    tables_in: str = ""
    mapping: str = ""
    also_read: str = ""

    def __post_init__(self) -> None:
        try:
            url = sa.make_url(self.database)
            url.get_dialect().import_dbapi()
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            rule = "dialect+driver://user@host/name, with its driver installed"
            detail = Detail("database", None, f"{rule} ({error})", "Correct it, or install the driver.")
            raise UsageError("The warehouse's address cannot be used.", detail) from error
        if url.password:
            detail = Detail("database", None, "no password in it", "Leave it out; docs/crm.md tells where it goes.")
            raise UsageError("The warehouse's address holds a password.", detail)

    def open(self, password: str) -> "WarehouseConnector":
        """A connection; nothing is sent yet."""
        url = sa.make_url(self.database)
        engine = sa.create_engine(url.set(password=password) if password else url, pool_pre_ping=True)
        custom = [name.strip() for name in self.also_read.split(",") if name.strip()]
        return WarehouseConnector(engine, self.tables_in or None, self.mapping, custom)


class WarehouseConnector:
    """Reads tables; takes no scores."""

    def __init__(self, engine: sa.Engine, schema: str | None, mapping: str, custom: Sequence[str]) -> None:
        self._engine, self._schema, self._named, self._custom = engine, schema, mapping, custom
        self.api_calls = 0
        sa.event.listen(engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.api_calls += 1

    def close(self) -> None:
        """End the connection."""
        self._engine.dispose()

    def survey(self) -> Found:
        """Recognise the tables and count their rows."""
        with self._connected() as connection:
            shelf = self._shelf(connection)
            counts = {}
            for table, names in shelf.sources.items():
                there = {name for name in names if name in shelf.columns}
                if there:
                    counts[table] = sum(self._count_rows(connection, shelf, name) for name in sorted(there))
        undated = sorted(name for name in shelf.wanted if SYNCED not in shelf.columns[name])
        notes = ["scores are not written into a warehouse; `dealcast score --out FILE` gives them as a file"]
        if undated:
            notes.append(f"read as a whole every time, having no {SYNCED}: {', '.join(undated)}")
        return Found(
            system=f"{self._engine.dialect.name}, {shelf.named}",
            tables=counts,
            fields=tuple(shelf.wanted[shelf.deals] or shelf.columns[shelf.deals]),
            history_since=None,
            writes_to=None,
            notes=tuple(notes),
        )

    def _count_rows(self, connection: sa.Connection, shelf: "_Shelf", name: str) -> int:
        return int(connection.execute(sa.select(sa.func.count()).select_from(shelf.table(name))).scalar_one())

    def fetch(self, since: str | None) -> Fetch:
        """Everything, or what was loaded since the cursor: deals with their whole past, other rows by themselves.

        The moment is that of the latest load; without any it is the database's clock.
        """
        with self._connected() as connection:
            shelf = self._shelf(connection)
            dated = [name for name in shelf.wanted if SYNCED in shelf.columns[name]]
            latest = [connection.execute(sa.select(sa.func.max(shelf.table(n).c[SYNCED]))).scalar() for n in dated]
            stamps = [_moment(each) for each in latest if each is not None]
            moment = max(stamps) if stamps else _moment(connection.execute(sa.select(sa.func.now())).scalar_one())
        start = None if since is None else pd.Timestamp(since) - OVERLAP
        calendar: dict[str, object] = {}
        return Fetch(moment, moment.isoformat(), calendar, self._batches(shelf, start), shelf.mapping)

    def push(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """Refused: a warehouse takes no scores.

        Raises
        ------
        UsageError
            Always.
        """
        step = "Write them to a file and load that: dealcast score --out scores.parquet"
        detail = Detail("warehouse", None, "scores go into a CRM", step)
        raise UsageError("Scores are not written into a warehouse.", detail)

    def withdraw(self, deal_ids: Sequence[str]) -> dict[str, str]:
        """Nothing to do: a warehouse has taken no scores."""
        return {}

    def _shelf(self, connection: sa.Connection) -> "_Shelf":
        look = sa.inspect(connection)
        names = [*look.get_table_names(self._schema), *look.get_view_names(self._schema)]
        named = self._named or _recognised(names)
        if named is None:
            rule = "it holds deals, opportunity (Salesforce) or deal (HubSpot)"
            step = "Name the schema (tables_in=…) or a mapping of your own (mapping=FILE, docs/mapping.md)."
            found = ", ".join(sorted(names)[:20]) or "nothing"
            raise UsageError("No table of deals was recognised.", Detail("database", found, rule, step))
        mapping = None if named == CONTRACT else with_custom_fields(load_mapping(named), self._custom)
        wanted = _wanted(mapping, names)
        columns = {name: {c["name"]: c["type"] for c in look.get_columns(name, self._schema)} for name in wanted}
        return _Shelf(self._schema, named, mapping, columns, wanted)

    def _batches(self, shelf: "_Shelf", start: pd.Timestamp | None) -> Iterator[Batch]:
        with self._connected() as connection:
            for name in shelf.wanted:
                query = shelf.query(name, start)
                rows = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
                columns = list(rows.keys())
                for some in rows.partitions():
                    yield Batch(name, [_as_text(columns, row) for row in some])

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            shown = self._engine.url.render_as_string(hide_password=True)
            trouble = str(getattr(error, "orig", None) or error).splitlines()[0][:300]
            detail = Detail("database", shown, trouble, "Check the database and the password, then run this again.")
            raise OtherSideFailed("The warehouse does not answer.", detail) from error


@dataclass(frozen=True)
class _Shelf:
    """The tables of a warehouse that are read.

    Attributes
    ----------
    named : the mapping, or `contract`.
    columns : of every table, with their types.
    wanted : by table the columns to read, in the order in which tables are read.
    """

    schema: str | None
    named: str
    mapping: TableMapping | None
    columns: Mapping[str, Mapping[str, sa.types.TypeEngine[Any]]]
    wanted: Mapping[str, Sequence[str] | None]

    @property
    def sources(self) -> dict[str, list[str]]:
        """By table of the contract the tables that its rows come from."""
        if self.mapping is None:
            return {name: [name] for name in self.columns}
        return {
            table: [name for each in sources if (name := _first(each.file, self.columns))]
            for table, sources in self.mapping.tables.items()
        }

    @property
    def deals(self) -> str:
        """The table of deals."""
        return self.sources["deals"][0]

    def table(self, name: str) -> sa.TableClause:
        columns = [sa.column(each, kind) for each, kind in self.columns[name].items()]
        return sa.table(name, *columns, schema=self.schema)

    def query(self, name: str, start: pd.Timestamp | None) -> sa.Select[Any]:
        """The rows of a table that are needed; of deals and their histories those of every deal that changed."""
        wanted = self.wanted[name] or list(self.columns[name])
        table = self.table(name)
        query = sa.select(*(table.c[column] for column in wanted if column in self.columns[name]))
        if start is None or self.mapping is None or name in self._whole():
            return query
        keys = self._deal_keys()
        if name in keys:
            others = [(self.table(each), key) for each, key in keys.items() if SYNCED in self.columns[each]]
            changed = [sa.select(other.c[key]).where(_since(other, start)) for other, key in others]
            return query.where(table.c[keys[name]].in_(sa.union(*changed)))
        return query.where(_since(table, start))

    def _whole(self) -> set[str]:
        """What is read as a whole: tables without a cursor, and those that complete the rows of others."""
        assert self.mapping is not None
        joined = {name for names in joined_only(self.mapping) if (name := _first(names, self.columns))}
        keys = self._deal_keys()
        dated = any(SYNCED in self.columns[name] for name in keys)
        undated = {name for name in self.columns if SYNCED not in self.columns[name]} - (set(keys) if dated else set())
        return joined | undated | (set() if SYNCED in self.columns[self.deals] else set(keys))

    def _deal_keys(self) -> dict[str, str]:
        """The tables of deals and of their histories, each with its column of deal ids."""
        assert self.mapping is not None
        found = {}
        for table in ("deals", "deal_history"):
            for source in self.mapping.tables.get(table, ()):
                name = _first(source.file, self.columns)
                key = next((rule.column for rule in source.columns["deal_id"] if rule.column), None)
                if name and key and key in self.columns[name]:
                    found[name] = key
        return found


def _since(table: sa.TableClause, start: pd.Timestamp) -> sa.ColumnElement[bool]:
    column = table.c[SYNCED]
    if not isinstance(column.type, sa.DateTime):
        return column >= sa.literal(f"{start:%Y-%m-%d %H:%M:%S}")
    moment = start.to_pydatetime()
    return column >= sa.literal(moment if column.type.timezone else moment.replace(tzinfo=None), column.type)


def _recognised(names: Sequence[str]) -> str | None:
    """The mapping that these tables are for, by the table of deals."""
    if "deals" in names:
        return CONTRACT
    for name in shipped_mappings():
        mapping = load_mapping(name)
        if name.startswith("fivetran") and any(_first(each.file, names) for each in mapping.tables["deals"]):
            return name
    return None


def _wanted(mapping: TableMapping | None, names: Sequence[str]) -> dict[str, list[str] | None]:
    """By table that is there the columns to read; None: all of them."""
    if mapping is None:
        return {name: None for name in TABLES if name in names}
    found: dict[str, dict[str, None]] = {}
    for several, columns in columns_read(mapping).items():
        name = _first(several, names)
        if name is not None:
            found.setdefault(name, {}).update(dict.fromkeys(columns))
    return {name: list(columns) for name, columns in found.items()}


def _first(several: Sequence[str], there: Any) -> str | None:
    return next((name for name in several if name in there), None)


def _moment(value: Any) -> pd.Timestamp:
    stamp = pd.Timestamp(value)
    return (stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")).as_unit("us")


def _as_text(columns: Sequence[str], row: Sequence[Any]) -> Row:
    return {name: _text(value) for name, value in zip(columns, row, strict=True)}


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return str(value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None))
    return value.isoformat() if isinstance(value, date) else str(value)
