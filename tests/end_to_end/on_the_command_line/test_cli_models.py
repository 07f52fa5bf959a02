"""Models on the command line: promoted, rolled back and compared; what they use, how it drifts, what is damaged."""

import json

import pytest
from command_line_here import dealcast, done, refused

from crm.store import read_tables
from dealcast.cli import answer
from dealcast.demo import quarter_begun, replay_weeks
from dealcast.session import Session
from models.outlook import line_through
from models.review import review_cuts

pytestmark = pytest.mark.slow


def test_the_champion_can_be_promoted_and_rolled_back(workspace, trained):
    first, second = (report["model_version"] for report in trained[1:])
    assert done(workspace, "models", "show")["model_version"] == first
    models = done(workspace, "models", "list")["models"]
    assert [model["model_version"] for model in models] == [second, first]
    assert models[1]["aliases"] == ["champion"]
    moved = done(workspace, "models", "promote", second, "--reason", "trial")
    assert (moved["champion"], moved["previous"], moved["reason"]) == (second, first, "trial") and moved["by"]
    assert done(workspace, "models", "show")["model_version"] == second
    assert done(workspace, "models", "rollback")["champion"] == first
    card = done(workspace, "models", "show", second)
    assert card["model_version"] == second and card["features"] and card["baselines"]
    assert refused(workspace, "models", "show", "nobody")[0] == 4
    assert refused(workspace, "models", "promote", "nobody")[0] == 4


def test_the_demonstration_keeps_the_weeks_before_as_the_replays_they_are(workspace, trained):
    done(workspace, "models", "promote", trained[2]["model_version"])
    session, tables = Session(workspace, as_json=True), read_tables(workspace)
    period = tables.calendar.period_of(tables.as_of)
    assert str(period.start) == str(quarter_begun(session))
    for _again in range(2):
        replay_weeks(session)
    cuts = [cut for cut in review_cuts(tables.calendar, period, tables.as_of) if cut < tables.as_of]
    for kind in ("forecast", "scores"):
        assert [head.as_of for head in session.ledger.publications(kind, basis="replayed")] == cuts
        assert session.ledger.publications(kind, basis="published") == []
    line = line_through(session.ledger, period, "company", "company", at=session.now)
    assert len(line) == len(cuts) > 3 and set(line["basis"]) == {"replayed"}


def test_a_promotion_is_told_in_words(workspace, trained, capsys):
    version = trained[1]["model_version"]
    assert answer(["--workspace", str(workspace), "models", "promote", version, "--reason", "a [trial]"]) == 0
    assert capsys.readouterr().out == f"Champion: {version} (before: {version}), a [trial]\n"


def test_two_models_are_compared_and_the_order_only_turns_the_sign(workspace, trained):
    first, second = (report["model_version"] for report in trained[1:])
    document = done(workspace, "models", "compare", first, second)
    assert {"a", "b", "snapshots", "metrics", "difference", "slices", "calibration_slope"} <= set(document)
    assert (document["a"], document["b"]) == (first, second) and document["snapshots"] > 0
    seen, metrics = document["difference"]["log_loss"], document["metrics"]
    assert seen["value"] == pytest.approx(metrics["a"]["log_loss"] - metrics["b"]["log_loss"])
    assert seen["low"] <= seen["value"] <= seen["high"]
    turned = done(workspace, "models", "compare", second, first)
    assert turned["difference"]["log_loss"]["value"] == pytest.approx(-seen["value"])
    assert turned["metrics"] == {"a": metrics["b"], "b": metrics["a"]}


def test_a_model_compared_with_itself_is_no_better(workspace, trained, capsys):
    version = trained[1]["model_version"]
    difference = done(workspace, "models", "compare", version, version)["difference"]["log_loss"]
    assert difference == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert answer(["--workspace", str(workspace), "models", "compare", version, version]) == 0
    assert "chance" in capsys.readouterr().out


def test_a_model_nobody_knows_is_not_compared_and_the_one_meant_is_named(workspace, trained):
    version = trained[1]["model_version"]
    code, error = refused(workspace, "models", "compare", version, version[:-1])
    assert (code, error["code"]) == (2, "not_found") and version in error["details"][0]["next_step"]


def test_features_are_told_with_their_worth_to_the_champion_and_custom_fields_with_them(trained):
    features = {each["name"]: each for each in done(trained[0], "features", "list")["features"]}
    assert "category:competitor" in features
    used = [each for each in features.values() if each["importance"] is not None]
    assert len(used) > 20 and 0 < sum(each["importance"] for each in used) <= 1
    assert all(0 <= each["known_share"] <= 1 for each in used)
    assert done(trained[0], "features", "show", "category:competitor") == features["category:competitor"]


def test_drift_is_told_of_every_feature_the_model_uses_the_farthest_first(trained):
    document = done(trained[0], "features", "drift")
    assert document["model_version"] == trained[1]["champion"] and document["deals"] > 0
    indices = [each["index"] for each in document["features"]]
    assert len(indices) > 20 and indices == sorted(indices, reverse=True) and min(indices) >= 0
    assert not {"days_to_period_end", "business_days_left"} & {each["name"] for each in document["features"]}


def test_the_doctor_finds_nothing_wrong_with_a_trained_workspace(trained):
    document = done(trained[0], "doctor")
    assert document["ok"] and all(check["ok"] for check in document["checks"])
    assert {"packages", "data", "champion", "ledger"} <= {check["name"] for check in document["checks"]}


def test_the_doctor_names_a_damaged_model_and_hides_the_ledger_s_password(workspace, trained, monkeypatch):
    card = workspace / "bundles" / trained[1]["champion"] / "manifest.json"
    card.write_text(card.read_text().replace("log_loss", "log_gain"), "utf-8")
    monkeypatch.setenv("DEALCAST_LEDGER_URL", "postgresql://me:hunter2@127.0.0.1:1/none")
    code, document = dealcast(workspace, "doctor")
    wrong = {check["name"]: check for check in document["checks"] if not check["ok"]}
    assert code == 3 and not document["ok"] and wrong.keys() == {"champion", "ledger"}
    assert "hunter2" not in json.dumps(document)
