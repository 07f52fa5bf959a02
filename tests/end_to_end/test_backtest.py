"""A backtest of a very small company: stopped, gone on with, and the same as if each cut had been lived through."""

import contextlib
import io
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from crm.errors import DataUnusable
from crm.history import build_history
from crm.store import read_tables, write_version
from crm.synthetic import CompanyConfig, export, simulate
from crm.truncation import truncate_export
from crm.versions import import_lock
from dealcast.cli import answer
from ledger.ledger import open_ledger
from models.bundle import read_bundle
from models.replays import replayed_nodes
from models.review import REVIEW_COLUMNS, caller_record, review_rows
from training import tracking
from training.accuracy import keep_accuracy
from training.backtest import ended_periods, run_backtest

pytestmark = pytest.mark.slow

COMPANY = CompanyConfig(seed=3, start=date(2024, 10, 1), days=385, n_reps=4, n_teams=2, n_regions=1, deals_per_week=5)
NOW = pd.Timestamp("2026-02-01", tz="UTC")


class Stopped(Exception):
    """Somebody pulled the plug."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    workspace = tmp_path_factory.mktemp("backtest") / "workspace"
    workspace.mkdir()
    delivered = export(simulate(COMPANY))
    tables = replace(delivered, first_import_at=delivered.as_of)
    with import_lock(workspace):
        write_version(workspace, tables, changed=set(tables.tables), stages_derived=False, currency_given=True)
    return workspace


def replays(workspace: Path) -> list:
    return open_ledger(f"sqlite:///{workspace}/dealcast.db").publications("forecast", basis="replayed")


def kept(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in sorted((folder / "periods").iterdir())}


@pytest.fixture(scope="module")
def walked(workspace, tmp_path_factory):
    """A run that was stopped in its second period, what it left, and the document of the run that went on."""
    folder = tmp_path_factory.mktemp("out")

    def stop(step: str, share: float) -> None:
        if "1 of 2" in step:
            raise Stopped

    tables, ledger = read_tables(workspace), open_ledger(f"sqlite:///{workspace}/dealcast.db")
    with pytest.raises(Stopped):
        run_backtest(tables, ledger, folder, now=NOW, periods=2, progress=stop)
    left = kept(folder), len(replays(workspace))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        arguments = [
            "--workspace",
            workspace,
            "--json",
            "backtest",
            "--periods",
            "2",
            "--workers",
            "2",
            "--out",
            folder,
        ]
        assert answer([str(each) for each in arguments]) == 0
    return folder, left, json.loads(printed.getvalue())


def test_a_stopped_backtest_goes_on_with_the_next_period(walked, workspace):
    folder, (left, replayed), document = walked
    assert set(left) == {"2025-04-01.json", "2025-04-01.parquet"}
    assert {name: kept(folder)[name] for name in left} == left
    assert [period["period_start"] for period in document["periods"]] == ["2025-04-01", "2025-07-01"]
    assert replayed == 13 and len(replays(workspace)) == 13 + 13


def test_each_period_is_a_run_of_mlflow_with_metrics_by_week_once(walked, workspace):
    folder, _, document = walked
    client = tracking._client(workspace)
    experiment = client.get_experiment_by_name(tracking.ACCURACY).experiment_id
    runs = {run.info.run_name: run for run in client.search_runs([experiment])}
    names = [f"backtest {each['period_start']} data {document['data_version']}" for each in document["periods"]]
    assert set(runs) == {*names, "backtest of 2"}
    for name, period in zip(names, document["periods"], strict=True):
        assert float(runs[name].data.params["actual"]) == period["actual"]
        told = client.get_metric_history(runs[name].info.run_id, "company/model/crps")
        assert [point.step for point in sorted(told, key=lambda point: point.step)] == list(range(1, 14))
    assert {"team/call.commit/wape", "rep/model/coverage_80"} <= set(runs[names[0]].data.metrics)
    files = {each.path for each in client.list_artifacts(runs["backtest of 2"].info.run_id)}
    assert files == {"scoreboard.csv", "differences.csv", "accuracy.png"} and (folder / "accuracy.png").is_file()


def test_a_review_of_a_finished_period_is_written_down_once(walked, workspace):
    client = tracking._client(workspace)
    experiment = client.get_experiment_by_name(tracking.ACCURACY).experiment_id
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert answer(["--workspace", str(workspace), "--json", "review", "--period-start", "2025-07-01"]) == 0
    rows = pd.DataFrame(json.loads(printed.getvalue())["rows"])
    assert rows["actual"].notna().all() and rows["actual_latest"].notna().all()
    tables = read_tables(workspace)
    kept = pd.read_parquet(walked[0] / "periods" / "2025-07-01.parquet")
    again = {"period": ended_periods(tables)[-1], "kind": "review", "at": NOW}
    assert keep_accuracy(workspace, kept, **again) is None
    found = client.search_runs([experiment], "params.kind = 'review'")
    assert [run.info.run_name for run in found] == ["review 2025-07-01"]


def test_every_period_has_a_model_trained_at_its_start_and_nothing_is_published_or_registered(walked, workspace):
    document = walked[2]
    for period in document["periods"]:
        assert period["trained_as_of"] == f"{period['period_start']}T00:00:00Z" and period["actual"] > 0
    versions = {head.model_version for head in replays(workspace)}
    assert versions == {period["model_version"] for period in document["periods"]}
    assert open_ledger(f"sqlite:///{workspace}/dealcast.db").publications("forecast", basis="published") == []
    assert not (workspace / "bundles").exists()


def test_the_document_is_the_contracts_and_lies_beside_the_rows(walked):
    folder, _, document = walked
    keys = {"node_type", "week", "forecaster", "wape", "bias", "pinball_loss", "crps", "coverage_80", "periods"}
    assert all(keys <= row.keys() for row in document["scoreboard"])
    assert all({"against", "metric", "difference", "low", "high"} <= row.keys() for row in document["differences"])
    assert json.loads((folder / "backtest.json").read_text("utf-8")) == document and document["out"] == str(folder)
    rows = pd.read_parquet(folder / "rows.parquet")
    assert list(rows) == list(REVIEW_COLUMNS) and (rows["basis"] == "replayed").all()
    company = rows[(rows["node_type"] == "company") & (rows["forecaster"] == "model") & (rows["week_of_period"] == 3)]
    shown = next(
        row
        for row in document["scoreboard"]
        if (row["node_type"], row["week"], row["forecaster"]) == ("company", 3, "model")
    )
    assert shown["periods"] == 2
    assert shown["wape"] == pytest.approx(company["error"].abs().sum() / company["actual"].sum())
    assert len(pd.read_csv(folder / "scoreboard.csv")) == len(document["scoreboard"])
    assert len(pd.read_csv(folder / "differences.csv")) == len(document["differences"])


@pytest.mark.parametrize("week", [2, 9])
def test_what_stands_at_a_cut_is_the_same_from_the_export_of_that_moment(walked, workspace, tmp_path, week):
    folder, _, document = walked
    tables = read_tables(workspace)
    period = ended_periods(tables)[-1]
    rows = pd.read_parquet(folder / "rows.parquet")
    later = rows[(rows["period_start"].astype("str") == str(period.start)) & (rows["week_of_period"] == week)]
    cut = later["cut_at"].iloc[0]
    then = truncate_export(tables, cut)
    bundle = read_bundle(folder / "bundles" / document["periods"][-1]["model_version"])
    ledger = open_ledger(f"sqlite:///{tmp_path}/then.db")
    nodes = replayed_nodes(ledger, bundle, *bundle.read_history(then), cuts=[cut], period=period, now=NOW)[cut]
    history = build_history(then)
    record = caller_record(then, history, cut)
    lived = review_rows(then, history, nodes, record, cut=cut, period=period, basis="replayed")
    columns = [name for name in REVIEW_COLUMNS if name not in ("actual", "actual_latest", "error", "inside_80")]
    # pandas reads moments back in another unit than they were written in.
    same = later[columns].reset_index(drop=True).astype(lived[columns].dtypes.to_dict())
    pd.testing.assert_frame_equal(same, lived[columns], rtol=1e-9)
    assert {"model", "call", "call_corrected", "same_day_conversion"} <= set(lived["forecaster"])


def test_without_an_ended_period_there_is_nothing_to_look_back_on(walked, workspace):
    folder = walked[0]
    tables, ledger = read_tables(workspace), open_ledger(f"sqlite:///{workspace}/dealcast.db")
    early = truncate_export(tables, pd.Timestamp("2024-12-20", tz="UTC"))
    with pytest.raises(DataUnusable, match="No period"):
        run_backtest(early, ledger, folder, now=NOW)


def test_people_are_shown_who_was_right_and_reviews_of_a_finished_period(walked, workspace, capsys):
    folder = str(walked[0])
    assert answer(["--workspace", str(workspace), "backtest", "--periods", "2", "--workers", "2", "--out", folder]) == 0
    shown = capsys.readouterr().out
    assert "wape" in shown and "same_day_conversion" in shown and folder in shown.replace("\n", "")
    assert answer(["--workspace", str(workspace), "review", "--period-start", "2025-07-01"]) == 0
    shown = capsys.readouterr().out
    assert "No model row at 13 of 13 cuts" in shown and "call_rolled_up" in shown and "2025-09-29" in shown


def test_a_file_where_the_folder_should_be_is_refused(workspace, tmp_path, capsys):
    (tmp_path / "taken").write_text("mine", "utf-8")
    assert answer(["--workspace", str(workspace), "backtest", "--out", str(tmp_path / "taken")]) == 2
    assert "is not a folder" in capsys.readouterr().err
