"""A company whose own fields are called what no field should be, from the import to the pages."""

import contextlib
import csv
import html
import io
import json
import random
import shutil
from pathlib import Path

import pandas as pd
import pytest
from serving_here import NOW, another_model, until, url_of
from starlette.testclient import TestClient

from crm.export import write_export
from crm.plain import to_plain
from crm.store import read_tables
from crm.synthetic import CompanyConfig, export, simulate
from dealcast.cli import answer
from ledger.ledger import open_ledger
from models.bundle_store import set_champion
from serving.api import create_api

pytestmark = pytest.mark.slow

COMPANY = CompanyConfig(seed=3, days=330, n_reps=4, n_teams=2, n_regions=1, deals_per_week=8.0)
ODD = (
    *('we"ird; DROP TABLE deals;--', "o'clock", "select", "order by", "a\nb", "deals.stage", "field_0", "as_of"),
    *(
        "state_row",
        "深い 気持ち ☃",
        "e\u0301té",
        "{value} {0} {value.__class__}",
        "%s %(x)s",
        "a:b",
        "x" * 300,
    ),
    *("<script>alert(1)</script>", "=HYPERLINK(1)", "\u202egnp.exe", "../../etc/passwd", "$1 {{ 7*7 }}"),
)
FORMULA = "=cmd|' /C calc'!A0"


def dealcast(workspace: Path, *arguments: object) -> dict:
    """What a command prints with `--json`; it succeeds."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = answer(["--workspace", str(workspace), "--json", *map(str, arguments)])
    assert code == 0, printed.getvalue()
    return json.loads(printed.getvalue())


@pytest.fixture(scope="module")
def company(tmp_path_factory) -> Path:
    """A workspace with a model, of a company whose odd fields tell won from lost, so that they become reasons."""
    place = tmp_path_factory.mktemp("odd fields")
    write_export(export(simulate(COMPANY)), place / "export")
    told = json.loads((place / "export" / "calendar.json").read_text())
    told["stable_fields"] = [*told.get("stable_fields", []), *ODD]
    (place / "export" / "calendar.json").write_text(json.dumps(told))
    file, dice = place / "export" / "deals.csv", random.Random(6)
    deals = pd.read_csv(file, dtype=str, keep_default_na=False)
    good = [int(won == "true" or (won == "" and dice.random() < 0.4)) for won in deals["is_won"].str.lower()]
    for number, name in enumerate(ODD):
        noisy = [each if dice.random() < 0.8 else 1 - each for each in good]
        values = [FORMULA, "<b>o'k</b>"] if number % 2 else ["3", "7.5"]
        deals[name] = [values[each] for each in noisy]
    deals.to_csv(file, index=False)
    workspace = place / "workspace"
    report = dealcast(workspace, "import", place / "export")
    assert report["tables"]["deals"]["refused"] == 0
    dealcast(workspace, "train", "--promote", "always")
    # The learned model serves whatever it is worth against the baselines, which give no reasons.
    set_champion(workspace, another_model(workspace, fallback=None), by="test", reason="with reasons", at=NOW)
    return workspace


@pytest.fixture(scope="module")
def scores(company) -> list[dict]:
    return dealcast(company, "score")["scores"]


def test_every_odd_field_is_kept_and_becomes_a_feature(company):
    deals = read_tables(company).get("deals")
    listed = {each["name"] for each in dealcast(company, "features", "list")["features"]}
    for place, name in enumerate(ODD):
        values = {FORMULA, "<b>o'k</b>"} if place % 2 else {3.0, 7.5}
        assert set(deals[name].dropna()) == values, name
        assert f"{'category' if place % 2 else 'number'}:{name}" in listed, name


def test_reasons_name_odd_fields_and_an_explanation_does_too(company, scores):
    reasons = [reason for score in scores for reason in score["reasons"]]
    named = {reason["feature"].partition(":")[2] for reason in reasons} & set(ODD)
    assert len(named) >= 3, named
    deal_id = next(s["deal_id"] for s in scores if any(":" in r["feature"] for r in s["reasons"]))
    explained = dealcast(company, "explain", deal_id)
    assert explained["score"]["deal_id"] == deal_id and explained["score"]["reasons"]


def test_the_service_tells_proposes_and_shows_deals_with_odd_fields(company, scores, tmp_path):
    workspace = Path(shutil.copytree(company, tmp_path / "workspace"))
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["admin"], now=NOW)
    tables = read_tables(workspace)
    deal_id = next(s["deal_id"] for s in scores if any(":" in r["feature"] for r in s["reasons"]))
    row = tables.get("deals").set_index("deal_id").loc[deal_id]
    given = {"deal_id": deal_id, **{name: to_plain(row[name]) for name in row.index if not name.startswith("_")}}
    with TestClient(create_api(workspace, url_of(workspace)), headers={"x-api-key": secret}) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        (score,) = client.post("/v1/score", json={"deal_ids": [deal_id]}).json()["scores"]
        told = client.get(f"/v1/deals/{deal_id}").json()
        assert told["score"] == score and told["deal"]["select"] == given["select"]
        answer = client.post("/v1/what_if", json={"deals": [{"deal": given}]}).json()
        assert not answer["errors"] and answer["scores"][0]["deal_id"] == deal_id
        wrong = client.post("/v1/what_if", json={"deals": [{"deal": {**given, "order by": "soon"}}]}).json()
        fields = {name for name in ODD if f"deals[0].deal.{name}" in str(wrong["errors"])}
        assert fields == ({"order by"} if isinstance(given["order by"], float) else set())
        event = {"event_id": "odd", "table": "deals", "row": {**given, 'we"ird; DROP TABLE deals;--': 5}}
        assert client.post("/v1/events", json={"events": [event]}).json()["results"][0]["status"] == "accepted"
        until(lambda: client.get(f"/v1/deals/{deal_id}").json()["deal"]['we"ird; DROP TABLE deals;--'] in (5, "5"))
        for path in (
            f"/deals/{deal_id}",
            "/deals",
            "/review",
            f"/change/{deal_id}",
            f"/similar/{deal_id}",
            "/accuracy",
        ):
            page = client.get(path, headers={"accept": "text/html"})
            assert page.status_code == 200, (path, page.text[:300])
            assert "<script>alert(1)" not in page.text and "<b>o'k" not in page.text, path
        shown = client.get(f"/deals/{deal_id}").text
        assert any(reason["text"] in html.unescape(shown) for reason in score["reasons"])


def test_no_file_for_a_spreadsheet_holds_a_formula(company, tmp_path):
    dealcast(company, "score", "--out", tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert cells and not any(cell.startswith(("=", "@", "\t", "\r")) for cell in cells)
