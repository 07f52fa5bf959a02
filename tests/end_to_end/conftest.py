"""A small synthetic company, trained once for all that serve it; its service in this process and as a real server."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from in_this_process import served, serving
from serving_here import NOW, RealServer, another_model, url_of

from crm.history import open_deals
from crm.store import read_tables, write_version
from crm.synthetic import CompanyConfig, export, simulate
from crm.versions import import_lock
from models.bundle import bundle_for
from models.bundle_store import set_champion
from models.scorer import score_deals
from training.fit import train

COMPANY = CompanyConfig(seed=3, days=330, n_reps=4, n_teams=2, n_regions=1, deals_per_week=8.0)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A small synthetic company, imported and trained; tests that write take a copy.

    The learned model serves whatever it is worth against the baselines, which give no reasons.
    """
    workspace = tmp_path_factory.mktemp("trained") / "workspace"
    tables = export(simulate(COMPANY))
    tables = replace(tables, first_import_at=tables.as_of)
    with import_lock(workspace):
        write_version(workspace, tables, changed=set(tables.tables), stages_derived=False, currency_given=True)

    train(workspace, now=NOW, promote="always")
    set_champion(workspace, another_model(workspace, fallback=None), by="test", reason="with reasons", at=NOW)
    return workspace


@pytest.fixture
def workspace(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "workspace"))


@pytest.fixture(scope="session")
def view(trained):
    """What the command line would read and score: tables, history, bundle, scores."""
    tables = read_tables(trained)
    bundle = bundle_for(trained, tables.as_of, tables.as_of)
    tables, history = bundle.read_history(tables)
    return tables, history, bundle, score_deals(bundle, tables, history, open_deals(history, tables.as_of))


@pytest.fixture(scope="module")
def client(trained, tmp_path_factory):
    copy = Path(shutil.copytree(trained, tmp_path_factory.mktemp("served") / "workspace"))
    with served(copy) as client:
        yield client


@pytest.fixture
def service(workspace, request):
    with serving(workspace, url_of(workspace)) as service:
        yield service


@pytest.fixture(params=["sqlite", "postgresql"])
def either_service(request, workspace):
    """The service with its ledger on each kind of database."""
    url = url_of(workspace) if request.param == "sqlite" else request.getfixturevalue("postgresql")()
    with serving(workspace, url) as service:
        yield service


@pytest.fixture
def server(workspace, tmp_path):
    """BentoML's server of the workspace, as a process of its own; it is asked to stop, and must."""
    server = RealServer(workspace, tmp_path / "server.log")
    try:
        yield server.url, server.process, server.log
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait()
