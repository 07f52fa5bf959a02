"""The command line from an export to a forecast, on a small synthetic company, as a user would run it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from command_line_here import EARLIER, LONG_AGO, PAST, done, refused

from dealcast.cli import answer
from ledger.ledger import open_ledger
from models.forecaster import FORECAST_COLUMNS
from models.review import REVIEW_COLUMNS
from serving.schema import SCORE_COLUMNS

pytestmark = pytest.mark.slow


def test_an_import_counts_every_row_and_the_same_folder_again_changes_nothing(imported, folders, tmp_path):
    workspace, report = imported
    deals = len(pd.read_csv(folders[0] / "deals.csv"))
    counts = {"read": deals, "new": deals, "changed": 0, "unchanged": 0, "refused": 0}
    assert counts.items() <= report["tables"]["deals"].items()
    assert report["changed"] and report["as_of"].endswith("Z") and isinstance(report["findings"], list)
    copy = shutil.copytree(workspace, tmp_path / "copy")
    again = done(copy, "import", folders[0])
    assert not again["changed"] and again["data_version"] == report["data_version"]
    assert again["tables"]["deals"]["unchanged"] == deals


def test_check_tells_the_class_of_every_field_and_its_findings(imported):
    document = done(imported[0], "check")
    assert document["data_version"] == imported[1]["data_version"]
    assert {known["class"] for known in document["fields"].values()} == {"tracked", "untracked"}
    assert all(0 <= known["known_share"] <= 1 for known in document["fields"].values())
    keys = {"code", "severity", "title", "rows", "amount_base", "examples", "next_step"}
    assert document["findings"] == imported[1]["findings"]
    assert all(finding.keys() == keys and len(finding["examples"]) <= 5 for finding in document["findings"])


def test_training_judges_the_model_beside_every_baseline_and_makes_a_first_champion(trained):
    report = trained[1]
    assert report["gate"]["decision"] == "promoted" and report["champion"] == report["model_version"]
    assert report["deals"].keys() == {"won", "lost", "open"} and report["snapshots"] > 0
    names = {"base_rate", "stage_probability", "stage_win_rate", "naive_bayes", "forecast_category"}
    assert names | {"logistic_regression", "lightgbm_current_fields"} <= report["baselines"].keys()
    for metrics in (report["metrics"], *report["baselines"].values()):
        assert {"log_loss", "brier", "auc", "calibration_error", "calibration_slope"} <= metrics.keys()


def test_scores_are_rows_of_the_contract_and_are_published(workspace):
    document = done(workspace, "score")
    assert document["published"] and document["out"] is None and document["deals"] == len(document["scores"]) > 0
    for score in document["scores"]:
        assert list(score) == list(SCORE_COLUMNS)
        assert score["as_of"] == document["as_of"] and score["as_of"].endswith("Z")
        assert score["period_win_probability"] <= score["win_probability"] <= 1
        assert len(score["reasons"]) <= 5 and score["score_change"] is None
    _, said = open_ledger(f"sqlite:///{workspace}/dealcast.db").latest_scores()
    assert set(said["deal_id"]) == {score["deal_id"] for score in document["scores"]}


def test_score_files_hold_the_same_rows_and_the_document_then_has_none(workspace, tmp_path):
    rows = pd.DataFrame(done(workspace, "score")["scores"])
    for name in ("scores.csv", "scores.parquet"):
        document = done(workspace, "score", "--out", tmp_path / name)
        assert "scores" not in document and document["out"] == str(tmp_path / name)
    csv = pd.read_csv(tmp_path / "scores.csv", dtype={"deal_id": str})
    parquet = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(csv["deal_id"]) == list(parquet["deal_id"]) == list(rows["deal_id"])
    assert parquet["win_probability"].tolist() == rows["win_probability"].tolist() == csv["win_probability"].tolist()
    assert [json.loads(text) for text in csv["reasons"]] == rows["reasons"].tolist()


def test_forecasts_add_up_over_the_hierarchy(workspace):
    document = done(workspace, "forecast", "--by", "deal_type")
    nodes = pd.DataFrame(document["nodes"])
    assert list(nodes) == list(FORECAST_COLUMNS) and document["published"]
    assert nodes["scope"].str.startswith("deal_type=").any()
    everything = nodes[nodes["scope"] == "all"]
    company = everything.loc[everything["node_type"] == "company", "mean"].item()
    for level in ("region", "team", "rep"):
        assert everything.loc[everything["node_type"] == level, "mean"].sum() == pytest.approx(company)


def test_a_forecast_says_why_it_is_not_what_it_was(workspace, capsys):
    then = pd.DataFrame(done(workspace, "forecast", "--as-of", PAST)["nodes"])
    document = done(workspace, "forecast", "--since", PAST)
    nodes, moved = pd.DataFrame(document["nodes"]), pd.DataFrame(document["moved"])
    # At that past moment a model of an earlier training speaks; the champion came later.
    assert document["since"]["model_version"] != document["model_version"]
    assert {"model", "time", "edited", "lost", "newly_created", "not_yet_created"} <= set(moved["cause"])
    keys = ["node_type", "node_id"]
    was, now = (each.set_index(keys)["mean"] for each in (then, nodes))
    for node, bars in moved.groupby(keys):
        assert bars["amount"].sum() == pytest.approx(now.get(node, 0.0) - was.get(node, 0.0), abs=0.005)
    company = moved[moved["node_type"] == "company"]
    assert company["earlier"].iloc[0] == pytest.approx(was["company", "company"])
    for bar in company.itertuples():
        told = sum(deal["amount"] for deal in bar.deals) + bar.other_amount
        assert told == pytest.approx(bar.amount if bar.cause not in ("model", "not_yet_created") else told)
    assert answer(["--workspace", str(workspace), "forecast", "--since", PAST]) == 0
    shown = capsys.readouterr().out
    assert "because" in shown and "deals yet to come" in shown and document["since"]["model_version"] in shown
    code, error = refused(workspace, "forecast", "--since", document["as_of"])
    assert code == 2 and error["details"][0]["where"] == "--since"


def test_files_hold_to_the_contract(workspace, tmp_path, shared):
    files = [tmp_path / name for name in ("scores.csv", "scores.parquet", "forecast.csv", "forecast.parquet")]
    for file in files:
        done(workspace, "score" if file.stem == "scores" else "forecast", "--out", file)
    checked = subprocess.run(
        [sys.executable, shared / "tools" / "contract_check.py", *files], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_named_period_is_forecast_and_a_day_inside_one_is_refused(workspace):
    document = done(workspace, "forecast", "--period-start", "2024-07-01")
    assert (document["period_start"], document["period_end"]) == ("2024-07-01", "2024-10-01")
    code, error = refused(workspace, "forecast", "--period-start", "2024-07-02")
    assert code == 2 and "2024-07-01" in error["details"][0]["next_step"]


def test_what_changed_since_the_last_score_is_told_in_points(workspace, folders):
    before = {score["deal_id"]: score for score in done(workspace, "score")["scores"]}
    assert done(workspace, "import", folders[1])["changed"]
    changed = [score for score in done(workspace, "score")["scores"] if score["score_change"] is not None]
    assert len(changed) > len(before) / 2
    for score in changed:
        then = before[score["deal_id"]]
        assert score["score_change"] == pytest.approx(100 * (score["win_probability"] - then["win_probability"]))
        assert score["score_change_since"] == then["as_of"]


def changes_of(workspace: Path, deal_id: str) -> dict:
    """The `explain` document of a deal, its changes summing to what its score tells."""
    document = done(workspace, "explain", deal_id)
    assert list(document) == ["deal_id", "as_of", "score", "since", "change"]
    told = sum(change["effect"] for change in document["change"])
    assert told == pytest.approx(document["score"]["score_change"] or 0.0, abs=1e-6)
    assert all(change.keys() == {"cause", "text", "effect"} and change["text"] for change in document["change"])
    return document


def test_a_change_is_told_by_time_and_edits_that_sum_to_it(workspace, folders):
    before = {score["deal_id"]: score for score in done(workspace, "score")["scores"]}
    deal_id = next(iter(before))
    first = done(workspace, "explain", deal_id)
    assert first["score"] == before[deal_id] and first["since"] is None and first["change"] == []
    done(workspace, "import", folders[1])
    scores = sorted(done(workspace, "score")["scores"], key=lambda score: -abs(score["score_change"] or 0))
    edited = changes_of(workspace, scores[0]["deal_id"])
    then = before[scores[0]["deal_id"]]
    assert edited["score"] == scores[0]
    assert edited["since"] == {"as_of": then["as_of"], "win_probability": then["win_probability"]}
    rows = pd.read_csv(folders[1] / "deal_history.csv", dtype=str)
    activities = pd.read_csv(folders[1] / "activities.csv", dtype=str)
    touched = {*rows.loc[rows["changed_at"] > then["as_of"], "deal_id"]}
    touched |= {*activities.loc[activities["occurred_at"] > then["as_of"], "deal_id"]}
    untouched = next(score for score in scores if score["deal_id"] in before and score["deal_id"] not in touched)
    causes = {change["cause"] for change in changes_of(workspace, untouched["deal_id"])["change"]}
    assert causes == {"time"}


def test_a_change_of_the_model_is_told_as_such_even_where_it_is_gone(workspace, trained, folders):
    deal_id = done(workspace, "score")["scores"][0]["deal_id"]
    first, second = (report["model_version"] for report in trained[1:])
    done(workspace, "import", folders[1])
    done(workspace, "models", "promote", second)
    by_model = [change for change in changes_of(workspace, deal_id)["change"] if change["cause"] == "model"]
    assert len(by_model) == 1 and by_model[0]["text"] == f"model {second} instead of {first}"
    shutil.rmtree(workspace / "bundles" / first)
    (remainder,) = [change for change in changes_of(workspace, deal_id)["change"] if change["cause"] == "model"]
    assert "cannot be read any more" in remainder["text"]
    assert remainder["effect"] == pytest.approx(by_model[0]["effect"], abs=1e-6)


def test_a_deal_that_is_closed_or_not_there_is_not_explained(workspace, folders):
    code, error = refused(workspace, "explain", "nobody")
    assert (code, error["code"]) == (2, "not_found") and error["details"][0]["value"] == "nobody"
    deals = pd.read_csv(folders[0] / "deals.csv", dtype=str)
    won = deals[deals["stage"].str.contains("Won")].iloc[0]
    code, error = refused(workspace, "explain", won["deal_id"])
    assert code == 2 and "was won at 20" in error["message"] and "--as-of" in error["details"][0]["next_step"]
    assert refused(workspace, "explain", deals["deal_id"].iloc[-1], "--as-of", PAST)[1]["code"] == "not_found"


def test_a_replay_explains_what_was_known_then(workspace):
    score = done(workspace, "score", "--as-of", PAST)["scores"][0]
    document = done(workspace, "explain", score["deal_id"], "--as-of", PAST)
    assert document["score"] == score and document["as_of"] == f"{PAST}T00:00:00Z" and document["since"] is None


def test_an_older_export_is_refused_and_changes_nothing(workspace, folders):
    done(workspace, "import", folders[1])
    version = (workspace / "data" / "CURRENT").read_text()
    assert refused(workspace, "import", folders[0])[0] == 3
    assert (workspace / "data" / "CURRENT").read_text() == version


def test_a_replay_is_by_a_model_of_that_time_and_is_not_published(workspace, trained):
    champion, older = trained[1:]
    assert older["trained_as_of"] == f"{EARLIER}T00:00:00Z" and older["deals"]["won"] < champion["deals"]["won"]
    assert older["gate"]["decision"] == "kept" and older["champion"] == champion["model_version"]
    replay = done(workspace, "score", "--as-of", PAST)
    assert replay["model_version"] == older["model_version"] and not replay["published"]
    assert replay["as_of"] == f"{PAST}T00:00:00Z"
    assert not done(workspace, "forecast", "--as-of", PAST)["published"]
    ledger = open_ledger(f"sqlite:///{workspace}/dealcast.db")
    for kind in ("scores", "forecast"):
        for basis in ("published", "replayed"):
            assert ledger.publications(kind, basis=basis) == []


def test_a_review_puts_everybody_side_by_side_and_keeps_what_it_replayed(workspace, trained, tmp_path):
    document = done(workspace, "review", "--period-start", "2024-04-01", "--out", tmp_path / "rows.csv")
    rows = pd.DataFrame(document["rows"])
    assert list(rows) == list(REVIEW_COLUMNS) and len(pd.read_csv(tmp_path / "rows.csv")) == len(rows)
    assert {"model", "call", "call_corrected", "call_rolled_up", "last_period"} <= set(rows["forecaster"])
    assert rows["cut_at"].min() == "2024-04-01T09:00:00Z" and (rows["cut_at"] <= document["as_of"]).all()
    assert (rows["basis"] == "replayed").all() and rows["actual"].isna().all()
    assert any("books" in note for note in document["notes"])
    ledger = open_ledger(f"sqlite:///{workspace}/dealcast.db")
    kept = ledger.publications("forecast", basis="replayed")
    assert [str(head.as_of) for head in kept] == sorted(pd.to_datetime(rows["cut_at"].unique()).astype(str))
    assert {head.model_version for head in kept} == {trained[2]["model_version"]}
    assert ledger.publications("forecast", basis="published") == []
    again = pd.DataFrame(done(workspace, "review", "--period-start", "2024-04-01")["rows"])
    pd.testing.assert_frame_equal(again, rows)
    assert len(ledger.publications("forecast", basis="replayed")) == len(kept)


def test_a_review_without_a_model_of_that_time_says_so_and_shows_what_came(workspace):
    document = done(workspace, "review", "--period-start", "2023-10-01")
    rows = pd.DataFrame(document["rows"])
    assert "model" not in set(rows["forecaster"]) and rows["actual"].notna().all()
    assert any(
        "No model row at 13 of 13 cuts" in note and "dealcast train --as-of" in note for note in document["notes"]
    )
    assert (rows["error"] == rows["value"] - rows["actual"]).all()
    earlier = done(workspace, "review", "--period-start", "2023-10-01", "--as-of", "2023-10-20")
    then = pd.DataFrame(earlier["rows"])
    assert then["cut_at"].max() == "2023-10-16T09:00:00Z"
    came = ["actual", "actual_latest", "error"]
    assert then[came].isna().all(axis=None)
    same = rows[rows["cut_at"].isin(then["cut_at"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(same.drop(columns=came), then.drop(columns=came))


def test_a_past_before_every_model_has_no_score_and_training_one_is_the_next_step(workspace):
    code, error = refused(workspace, "score", "--as-of", LONG_AGO)
    assert (code, error["code"]) == (4, "unavailable") and LONG_AGO in error["details"][0]["next_step"]


def test_the_data_s_own_moment_is_not_the_past_and_a_later_one_is_refused(workspace):
    moment = done(workspace, "score")["as_of"]
    assert done(workspace, "score", "--as-of", moment)["published"]
    for later in ("2031-01-01", (pd.Timestamp(moment) + pd.Timedelta(seconds=1)).isoformat()):
        for command in ("score", "forecast", "train"):
            code, error = refused(workspace, command, "--as-of", later)
            assert code == 2 and error["details"][0]["value"] == later


def test_a_key_for_a_user_nobody_knows_is_refused(imported, tmp_path):
    copy = shutil.copytree(imported[0], tmp_path / "copy")
    code, error = refused(copy, "keys", "create", "x", "--scope", "read", "--user", "nobody")
    assert code == 2 and error["details"][0]["value"] == "nobody"


@pytest.mark.parametrize("as_of", ["yesterday", "2024-13-01", "06/05/2024"])
def test_what_is_not_a_moment_is_refused(trained, as_of):
    code, error = refused(trained[0], "score", "--as-of", as_of)
    assert code == 2 and error["details"][0]["value"] == as_of


def test_a_day_for_a_period_that_is_not_a_day_is_refused(trained):
    assert refused(trained[0], "forecast", "--period-start", "soon")[0] == 2


def test_without_a_champion_there_is_no_score(imported):
    code, error = refused(imported[0], "score")
    assert (code, error["code"]) == (4, "unavailable") and "dealcast train" in error["details"][0]["next_step"]


def test_a_ledger_that_cannot_be_reached_is_the_other_side_s_failure(trained, monkeypatch):
    monkeypatch.setenv("DEALCAST_LEDGER_URL", "postgresql://me:hunter2@127.0.0.1:1/none")
    code, error = refused(trained[0], "score")
    assert (code, error["code"]) == (5, "unavailable") and "hunter2" not in json.dumps(error)


def test_people_get_tables_and_no_traceback(trained, tmp_path, capsys):
    workspace = str(shutil.copytree(trained[0], tmp_path / "workspace"))
    deal_id = done(Path(workspace), "score")["scores"][0]["deal_id"]
    for arguments in (["check"], ["score"], ["forecast"], ["models", "list"], ["models", "show"], ["doctor"]):
        assert answer(["--workspace", workspace, *arguments]) == 0
    assert answer(["--workspace", workspace, "explain", deal_id]) == 0
    shown = capsys.readouterr().out
    assert "strongest reason" in shown and "commit call" in shown and "calibration_slope" in shown
    assert answer(["--workspace", workspace, "score", "--as-of", "never"]) == 2
    complaint = capsys.readouterr()
    assert complaint.out == "" and "\nError: " in complaint.err and "Traceback" not in complaint.err


def test_the_installed_command_prints_one_document_and_its_progress_elsewhere(trained, tmp_path):
    workspace = shutil.copytree(trained[0], tmp_path / "workspace")
    command = [Path(sys.executable).with_name("dealcast"), "--workspace", workspace, "--json", "score"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 0 and json.loads(ended.stdout)["published"]
    assert "score: publish" in ended.stderr
