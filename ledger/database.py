"""Opening the ledger's database: SQLite in WAL mode or PostgreSQL, migrated to the newest tables under a lock."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ledger.errors import LedgerError, LedgerUnavailable, Trouble

LOCK_WAIT_SECONDS = 60
MIGRATION_LOCK = 0x6465616C  # "deal": one number, the same for every process that migrates this database
_URL_RULE = (
    "sqlite:///FILE or postgresql://USER@HOST/NAME",
    "Correct the URL in settings.toml or DEALCAST_LEDGER_URL.",
)


def open_engine(url: str) -> Engine:
    """Connect, and bring the tables up to date.

    Parameters
    ----------
    url : a SQLAlchemy URL, `sqlite:///path/to/file` or `postgresql://user@host/name`.

    Raises
    ------
    LedgerError
        The URL is not one of these two.
    LedgerUnavailable
        The database cannot be opened, or was written by a newer dealcast.
    """
    target = parse_url(url)
    sqlite = target.get_backend_name() == "sqlite"
    engine = sqlite_engine(target) if sqlite else postgresql_engine(target)
    with explained(engine):
        migrate(engine)
    return engine


def parse_url(url: str) -> URL:
    """The URL with its driver named; passwords never reach a message."""
    try:
        target = make_url(url)
        backend = target.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise LedgerError("The ledger's URL cannot be read.", Trouble("ledger url", None, *_URL_RULE)) from None
    if backend in ("postgresql", "postgres"):
        return target.set(drivername="postgresql+psycopg")
    if backend == "sqlite":
        return target
    trouble = Trouble("ledger url", backend, *_URL_RULE)
    raise LedgerError(f"The ledger works on sqlite or postgresql, not on {backend}.", trouble)


def absolute_url(url: str) -> str:
    """The URL as another process, started in another folder, must say it; with its password."""
    target = parse_url(url)
    if target.get_backend_name() == "sqlite" and target.database and target.database != ":memory:":
        target = target.set(database=str(Path(target.database).resolve()))
    return target.render_as_string(hide_password=False)


def postgresql_engine(target: URL) -> Engine:
    """PostgreSQL that is given up where it does not answer: nobody waits for a lost connection or a lock for ever."""
    milliseconds = 1000 * LOCK_WAIT_SECONDS
    patience = {
        "connect_timeout": "5",
        "tcp_user_timeout": "20000",
        "keepalives_idle": "10",
        "options": f"-c statement_timeout={milliseconds}",
    }
    chosen = {name: value for name, value in patience.items() if name not in target.query}
    return create_engine(target, pool_pre_ping=True, pool_size=20, pool_timeout=10, connect_args=chosen)


def sqlite_engine(target: URL) -> Engine:
    """SQLite with write-ahead logging; writers queue up instead of failing, readers never wait."""
    if target.database and target.database != ":memory:":
        with suppress(OSError):  # where it cannot be made, opening the database says why
            Path(target.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(target, connect_args={"timeout": LOCK_WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def configure(connection, _record) -> None:  # type: ignore[no-untyped-def]
        connection.isolation_level = None  # we say BEGIN ourselves, below
        connection.execute("PRAGMA foreign_keys = ON")
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            with suppress(sqlite3.OperationalError):  # held by others just now: a later connection switches it
                connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer takes the lock at once: upgrading a read lock fails where two writers meet.
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that writes: all of it or nothing."""
    with explained(engine), engine.execution_options(writing=True).begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that reads."""
    with explained(engine), engine.connect() as connection:
        yield connection


@contextmanager
def explained(engine: Engine) -> Iterator[None]:
    """A database that is gone, locked or full is explained, its password left out."""
    try:
        yield
    except (OperationalError, PoolTimeout, OSError) as failure:
        reason = str(getattr(failure, "orig", failure)).strip()
        ledger = engine.url.render_as_string()
        step = "Start the database, make room or allow the file, or set another URL; `dealcast doctor` checks it."
        trouble = Trouble("ledger url", ledger, reason, step)
        raise LedgerUnavailable(f"The ledger {ledger} does not answer: {reason}", trouble) from failure


def migrate(engine: Engine) -> None:
    """Run the migrations that this database lacks; processes that start together wait for the first."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    newest = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == newest:
            return
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # a large table takes what it takes
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as failure:
            trouble = Trouble("ledger", None, str(failure), "Install the dealcast that wrote it, or a later one.")
            raise LedgerUnavailable("The ledger is of a newer dealcast.", trouble) from failure
