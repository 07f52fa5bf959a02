"""The challenger scores in the shadow: what it would have said is kept, and the champion alone is published."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from crm.store import write_version
from crm.synthetic import CompanyConfig, export, simulate
from crm.versions import import_lock
from dealcast.cli import answer
from ledger.ledger import open_ledger
from models import bundle_store
from training.fit import train

pytestmark = pytest.mark.slow

COMPANY = CompanyConfig(seed=3, start=date(2025, 1, 6), days=250, n_reps=4, n_teams=2, n_regions=1, deals_per_week=5)
NOW = pd.Timestamp("2026-02-01", tz="UTC")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str, str]:
    """A workspace, its champion and its challenger."""
    workspace = tmp_path_factory.mktemp("shadow") / "workspace"
    workspace.mkdir()
    delivered = export(simulate(COMPANY))
    tables = replace(delivered, first_import_at=delivered.as_of)
    with import_lock(workspace):
        write_version(workspace, tables, changed=set(tables.tables), stages_derived=False, currency_given=True)
    champion = train(workspace, now=NOW).bundle.model_version
    later = NOW + pd.Timedelta(days=1)
    return workspace, champion, train(workspace, now=later, seed=8, promote="never").bundle.model_version


def score(workspace: Path, capsys, *more: str) -> dict:
    assert answer(["--workspace", str(workspace), "--json", "score", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_challenger_scores_the_same_deals_and_only_the_champion_is_published(trained, capsys):
    workspace, champion, challenger = trained
    document = score(workspace, capsys)
    shadow = document["shadow"]
    assert document["model_version"] == champion and shadow["challenger"] == challenger
    [file] = (workspace / "shadow" / challenger).iterdir()
    said = pd.read_csv(file, dtype={"deal_id": "str"})
    assert len(said) == shadow["deals"] == document["deals"]
    told = {each["deal_id"]: each["win_probability"] for each in document["scores"]}
    assert said["win_probability_champion"].to_numpy() == pytest.approx(said["deal_id"].map(told).to_numpy())
    points = 100 * (said["win_probability_challenger"] - said["win_probability_champion"])
    assert shadow["mean_difference"] == pytest.approx(points.mean())
    assert shadow["mean_distance"] == pytest.approx(points.abs().mean()) and shadow["mean_distance"] > 0
    last = json.loads((workspace / "shadow" / "log.jsonl").read_text().splitlines()[-1])
    assert (last["champion"], last["challenger"]) == (champion, challenger)
    ledger = open_ledger(f"sqlite:///{workspace}/dealcast.db")
    assert {each.model_version for each in ledger.publications("scores", basis="published")} == {champion}
    assert answer(["--workspace", str(workspace), "score"]) == 0
    assert f"unpublished: {challenger}" in capsys.readouterr().out


def test_a_challenger_that_is_damaged_or_there_no_more_costs_no_score(trained, capsys, tmp_path):
    workspace, _, challenger = trained
    manifest = workspace / "bundles" / challenger / "manifest.json"
    kept = manifest.read_text()
    manifest.write_text(kept.replace('"seed": 8', '"seed": 9'))
    assert score(workspace, capsys)["shadow"] is None
    manifest.write_text(kept)
    assert score(workspace, capsys)["shadow"] is not None


def test_whoever_is_promoted_or_was_trained_before_the_last_promotion_is_no_challenger(trained):
    workspace, champion, challenger = trained
    assert bundle_store.find_challenger(workspace) == challenger
    at = NOW + pd.Timedelta(days=2)
    bundle_store.set_champion(workspace, challenger, by="me", reason="trial", at=at)
    assert bundle_store.find_challenger(workspace) is None
    bundle_store.set_champion(workspace, champion, by="me", reason=bundle_store.ROLLBACK, at=at)
    assert bundle_store.find_challenger(workspace) is None
