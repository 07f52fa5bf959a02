"""Blind calls: who has to call sees the model's number of what the call covers only after calling."""

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from serving_here import until, url_of

from crm.store import read_tables, write_version
from ledger.ledger import open_ledger
from serving.access import Access
from serving.api import create_api

pytestmark = pytest.mark.slow


@pytest.fixture
def uncalled(workspace):
    """The company before anybody has called for the current period; yields the workspace and a rep."""
    tables = read_tables(workspace)
    start = pd.Timestamp(tables.calendar.period_of(tables.as_of).start)
    calls = tables.get("forecast_calls")
    tables.tables["forecast_calls"] = calls[calls["period_start"] != start].reset_index(drop=True)
    write_version(workspace, tables, changed={"forecast_calls"}, stages_derived=False, currency_given=True)
    users = tables.get("users")
    return workspace, str(users.loc[users["role"] == "rep", "user_id"].iloc[0])


def test_a_caller_sees_the_models_number_after_calling_and_not_before(uncalled):
    workspace, rep = uncalled
    ledger = open_ledger(url_of(workspace))
    scopes, now = ["read", "calls", "what_if"], pd.Timestamp.now("UTC")
    mine, everybodys = (
        {"x-api-key": ledger.create_key(name, scopes, now=now, user_id=user)[0]}
        for name, user in (("rep", rep), ("all", None))
    )
    api = create_api(workspace, url_of(workspace), Access(blind_calls=True))
    with TestClient(api) as client:
        until(lambda: client.get("/readyz").status_code == 200, 120)

        def number(key, **asked):
            return client.post("/v1/forecast", json={"node_type": "rep", "node_id": rep, **asked}, headers=key)

        told = number(everybodys).json()["nodes"][0]
        before = number(mine).json()["nodes"][0]
        assert told["p50"] > 0 and before["won_to_date"] == told["won_to_date"]
        assert [before[name] for name in ("mean", "p10", "p50", "open_pipeline", "probability_of_quota")] == [None] * 5
        assert number(mine, gap=True).status_code == 403
        pages = {path: client.get(path, headers=mine) for path in ("/me", "/review", "/changes", "/review.csv")}
        assert all(page.status_code == 200 for page in pages.values())
        for path in ("/me", "/review"):
            assert "after your call" in pages[path].text
        assert "Calls are blind here" in pages["/changes"].text
        as_of = read_tables(workspace).as_of
        call = {"period_start": told["period_start"], "category": "commit", "amount": 1000.0}
        call |= {"submitted_at": as_of.isoformat()}
        said = client.post("/v1/calls", json={"calls": [call]}, headers=mine).json()["calls"][0]
        assert said["model_seen"] is False
        assert number(mine).json()["nodes"][0]["p50"] == told["p50"]
        assert "after your call" not in client.get("/me", headers=mine).text
    ledger.engine.dispose()
