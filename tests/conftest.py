"""What every test session shares: quiet libraries, one thread each, and a loud word on whatever was skipped."""

import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from postgres_here import Postgres

from ledger.ledger import open_ledger

# Before anything imports them: two test processes on two cores, and nobody calls home.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")

settings.register_profile("the same every time", derandomize=True, deadline=None)  # a busy machine fails nothing
settings.load_profile("the same every time")

PROJECT = Path(__file__).resolve().parents[1]
SHARED = PROJECT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data beside the project; what needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not here: put the public data beside the project to run this")
    return SHARED


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL of our own, gone after the session; yields what gives the URL of a new database."""
    server = Postgres()
    server.start()
    try:
        yield server.database
    finally:
        server.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """A ledger's URL on each kind of database, an empty one for every test."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/dealcast.db"
    return request.getfixturevalue("postgresql")()


@pytest.fixture
def ledger(url):
    """A ledger on each kind of database."""
    ledger = open_ledger(url)
    yield ledger
    ledger.engine.dispose()


def skip_reasons(terminalreporter) -> Counter:
    """How often each reason for skipping was given."""
    reports = terminalreporter.stats.get("skipped", [])
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)


def is_forgiven(reason: str) -> bool:
    """Public data that licences keep out of the project may be absent anywhere; nothing else may, in CI."""
    return "../shared" in reason and not SHARED.is_dir()


def pytest_terminal_summary(terminalreporter):
    reasons = skip_reasons(terminalreporter)
    if not reasons:
        return
    terminalreporter.section(f"{sum(reasons.values())} TESTS DID NOT RUN", red=True, bold=True)
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count:4d} x {reason}")
    if os.environ.get("CI") == "true" and not all(map(is_forgiven, reasons)):
        terminalreporter.line("CI=true: a skipped test is a failure", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    terminalreporter = session.config.pluginmanager.get_plugin("terminalreporter")
    judged = exitstatus == 0 and os.environ.get("CI") == "true" and terminalreporter
    if judged and not all(map(is_forgiven, skip_reasons(terminalreporter))):
        session.exitstatus = 1
