"""Training on a small synthetic company: the same facts give the same model, and nothing later is read."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from crm.errors import DataUnusable, NoModel, UsageError
from crm.history import build_history, open_deals
from crm.store import write_version
from crm.synthetic import CompanyConfig, export, simulate
from crm.truncation import truncate_export
from crm.versions import import_lock
from features.build import build_features
from models import bundle_store
from models.bundle import Bundle, bundle_for, read_bundle, write_bundle
from models.changes import EarlierScore, explain_change, freeze_deal
from models.creation import fit_creation
from models.scorer import score_deals
from training import tracking
from training.contest import compare_bundles, contest_champion, score_period
from training.evaluate import evaluate
from training.fit import fit_bundle, train
from training.metrics import log_losses
from training.pace import WINS_WITH_PACE

pytestmark = pytest.mark.slow

NOW = pd.Timestamp("2026-02-01", tz="UTC")
PAST = pd.Timestamp("2025-10-15", tz="UTC")
CONFIG = CompanyConfig(start=date(2024, 9, 2), days=490, n_reps=6, n_teams=2, n_regions=1, deals_per_week=9)


@pytest.fixture(scope="module")
def tables():
    delivered = export(simulate(CONFIG))
    return replace(delivered, first_import_at=delivered.as_of)


@pytest.fixture(scope="module")
def past_bundle(tables) -> Bundle:
    return fit_bundle(tables, PAST).bundle


@pytest.fixture(scope="module")
def trained(tables, past_bundle, tmp_path_factory):
    """A workspace with two trainings: one as of a past moment, then one as of the data's."""
    workspace = tmp_path_factory.mktemp("workspace")
    with import_lock(workspace):
        write_version(workspace, tables, changed=set(tables.tables), stages_derived=False, currency_given=True)
    past = train(workspace, as_of=PAST, now=NOW)
    return workspace, past, train(workspace, now=NOW)


@pytest.fixture(scope="module")
def fits(tables):
    """The past fits of the latest training."""
    return fit_bundle(tables, tables.as_of).fits


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_training_at_a_past_moment_equals_training_on_the_export_of_that_moment(tables, past_bundle, tmp_path):
    then = fit_bundle(replace(truncate_export(tables, PAST), data_version="then"), PAST).bundle
    now, then = write_bundle(tmp_path, past_bundle), write_bundle(tmp_path, then)
    folders = [tmp_path / "bundles" / each.model_version for each in (now, then)]
    now_files, then_files = map(files_of, folders)
    now_card, then_card = (json.loads(files.pop("manifest.json")) for files in (now_files, then_files))
    assert now_files == then_files
    differing = {key for key in now_card if now_card[key] != then_card[key]}
    assert differing == {"data_version", "model_version"}


def test_training_twice_gives_the_same_model(trained, past_bundle, tables):
    workspace, past, _ = trained
    again = replace(
        past_bundle, manifest={**past_bundle.manifest, "data_version": past.bundle.manifest["data_version"]}
    )
    before = files_of(workspace / "bundles" / past.bundle.model_version)
    assert write_bundle(workspace, again).model_version == past.bundle.model_version
    assert files_of(workspace / "bundles" / past.bundle.model_version) == before


def test_the_report_is_the_contracts_document(trained):
    _, _, report = trained
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert {"model_version", "run_id", "trained_as_of", "data_version", "snapshots", "deals", "metrics"} <= set(
        document
    )
    assert {"baselines", "gate", "champion", "seconds"} <= set(document)
    assert set(document["deals"]) == {"won", "lost", "open"} and min(document["deals"].values()) > 0
    numbers = {"log_loss", "brier", "auc", "calibration_error", "calibration_slope"}
    assert numbers | {"win_365"} <= set(document["metrics"])
    assert all(set(baseline) == numbers for baseline in document["baselines"].values())
    assert {"base_rate", "stage_win_rate", "naive_bayes", "logistic_regression"} <= set(document["baselines"])


def test_without_a_champion_a_past_training_serves_and_a_later_one_must_pass_the_gate(trained):
    workspace, past, latest = trained
    assert past.verdict.decision == "promoted" and past.champion == past.bundle.model_version
    assert latest.verdict.decision in ("promoted", "kept")
    expected = latest.bundle if latest.verdict.decision == "promoted" else past.bundle
    assert latest.champion == bundle_store.read_champion(workspace) == expected.model_version
    assert tracking.read_aliases(workspace)["champion"] == expected.model_version
    assert past.verdict.contest is None and latest.verdict.contest.snapshots > 0
    shown = latest.verdict.contest.difference.high <= 0.005 and not latest.verdict.contest.worse_slices
    assert shown or latest.verdict.decision == "kept"


def test_the_champion_is_contested_on_snapshots_taken_after_its_training_and_scores_them_itself(trained, fits, tables):
    _, past, latest = trained
    older = replace(past.bundle, manifest={**past.bundle.manifest, "trained_as_of": fits[1].fitted_at.isoformat()})
    evaluation = evaluate(fits, tables.as_of)
    contest = contest_champion(latest.bundle, older, tables, evaluation, fits)
    later = evaluation.judged[evaluation.judged["as_of"] >= fits[1].fitted_at]
    won = later["won"].to_numpy()
    assert contest.snapshots == len(later) < len(evaluation.judged)
    assert contest.champion == pytest.approx(log_losses(score_period(past.bundle, tables, later), won).mean())
    served = latest.bundle.manifest["fallback"] or "model"
    assert contest.candidate == pytest.approx(log_losses(later[served].to_numpy(), won).mean())


def test_a_champion_that_was_never_judged_and_shares_no_snapshot_does_not_defend_itself(trained, fits, tables):
    _, past, latest = trained
    evaluation = evaluate(fits, tables.as_of)
    newest = {**past.bundle.manifest, "trained_as_of": tables.as_of.isoformat()}
    unjudged = replace(past.bundle, manifest=newest, judged=past.bundle.judged.iloc[:0])
    assert contest_champion(latest.bundle, unjudged, tables, evaluation, fits) is None
    strangers = past.bundle.judged.assign(deal_id="nobody")
    elsewhere = replace(past.bundle, manifest=newest, judged=strangers)
    assert contest_champion(latest.bundle, elsewhere, tables, evaluation, fits).snapshots == 0


def test_each_moment_is_answered_by_a_model_trained_before_it(trained, tables):
    workspace, past, latest = trained
    assert bundle_for(workspace, tables.as_of, tables.as_of).model_version == latest.champion
    assert bundle_for(workspace, PAST, tables.as_of).model_version == past.bundle.model_version
    with pytest.raises(NoModel) as failure:
        bundle_for(workspace, PAST - pd.Timedelta(days=1), tables.as_of)
    assert "--as-of" in failure.value.details[0].next_step


def test_the_model_that_serves_is_the_best_by_log_loss(trained):
    for report in trained[1:]:
        losses = {name: numbers["log_loss"] for name, numbers in report.bundle.manifest["baselines"].items()}
        best = min(losses, key=losses.get)
        beaten = report.bundle.manifest["metrics"]["log_loss"] < losses[best]
        assert report.bundle.manifest["fallback"] == (None if beaten else best)


def test_a_deal_scored_alone_is_scored_as_among_all_and_reading_back_changes_nothing(tables, past_bundle, tmp_path):
    written = write_bundle(tmp_path, past_bundle)
    read = read_bundle(tmp_path / "bundles" / written.model_version)
    seen, history = read.read_history(tables)
    spine = open_deals(history, PAST)
    everyone = score_deals(written, seen, history, spine)
    pd.testing.assert_frame_equal(score_deals(read, seen, history, spine), everyone)
    for place in (0, len(spine) // 2, len(spine) - 1):
        alone = score_deals(read, seen, history, spine.iloc[[place]])
        pd.testing.assert_frame_equal(alone, everyone.iloc[[place]].reset_index(drop=True))


def test_scores_are_coherent(tables, past_bundle, tmp_path):
    bundle = write_bundle(tmp_path, past_bundle)
    seen, history = bundle.read_history(tables)
    for fallback in (None, "stage_win_rate", "one_chance"):
        serving = replace(bundle, manifest={**bundle.manifest, "fallback": fallback})
        scores = score_deals(serving, seen, history, open_deals(history, PAST))
        shares = scores[["period_win_probability", "period_loss_probability", "period_slip_probability"]]
        assert np.allclose(shares.sum(axis=1), 1, atol=1e-9)
        soon = scores["period_win_probability"] + scores["next_period_win_probability"]
        assert (soon <= scores["win_probability"] + 1e-9).all()
        assert (scores["win_probability_low"] <= scores["win_probability"]).all()
        assert (scores["win_probability"] <= scores["win_probability_high"]).all()
        assert (scores["expected_close_date"] > pd.Timestamp(PAST.date())).all()
        assert scores["expected_amount"].notna().all()
        assert scores["reasons"].map(len).max() == (0 if fallback else 5)


@pytest.fixture(scope="module")
def two_weeks(tables, past_bundle):
    """What the learned model sees, and the scores of the deals open at a moment and two weeks before."""
    bundle = replace(past_bundle, manifest={**past_bundle.manifest, "model_version": "learned", "fallback": None})
    seen, history = bundle.read_history(tables)
    now, then = (
        score_deals(bundle, seen, history, open_deals(history, at), explain=False)
        for at in (PAST + pd.Timedelta(days=14), PAST)
    )
    return bundle, seen, history, now.merge(then[["deal_id", "win_probability"]], on="deal_id", suffixes=("", "_then"))


@pytest.mark.parametrize("fallback", [None, "stage_win_rate", "one_chance"])
def test_what_changed_a_score_sums_to_the_change_to_the_last_digit(two_weeks, fallback):
    bundle, seen, history, scores = two_weeks
    bundle = replace(bundle, manifest={**bundle.manifest, "fallback": fallback})
    spine = scores[["deal_id", "as_of"]].iloc[:6]
    now = score_deals(bundle, seen, history, spine, explain=False)
    for deal_id, as_of, chance in zip(now["deal_id"], now["as_of"], now["win_probability"], strict=True):
        earlier = EarlierScore(PAST, 0.125, "another", None)
        changes = explain_change(bundle, seen, history, earlier, deal_id=deal_id, as_of=as_of)
        assert sum(change.effect for change in changes) == pytest.approx(100 * (chance - 0.125), abs=1e-6)
        assert {change.cause for change in changes} <= {"edit", "time", "model"}


def test_a_deal_nobody_touched_changes_by_time_alone_and_an_edit_is_named(two_weeks):
    bundle, seen, history, scores = two_weeks
    dated = ((history.changes, "at"), (history.activities, "known_from"), (history.contacts, "known_from"))
    as_of = scores["as_of"].iloc[0]
    touched = set()
    for rows, known_from in dated:
        touched |= {*rows.loc[(rows[known_from] > PAST) & (rows[known_from] <= as_of), "deal_id"]}
    moves = history.changes[(history.changes["field"] == "stage") & (history.changes["at"] > PAST)]
    moved = {*moves.loc[moves["at"] <= as_of, "deal_id"]}
    quiet = scores[~scores["deal_id"].isin(touched)].iloc[0]
    staged = scores[scores["deal_id"].isin(moved)].iloc[0]

    def changes_of(deal):
        earlier = EarlierScore(PAST, deal["win_probability_then"], "learned", bundle)
        return explain_change(bundle, seen, history, earlier, deal_id=deal["deal_id"], as_of=as_of)

    assert {change.cause for change in changes_of(quiet)} == {"time"}
    assert any("; before: " in change.text for change in changes_of(quiet))
    assert any("; before: " in change.text for change in changes_of(staged) if change.cause == "edit")


def test_freezing_a_deal_leaves_every_other_deal_as_it_is(two_weeks):
    _, seen, history, scores = two_weeks
    spine = scores[["deal_id", "as_of"]]
    frozen = freeze_deal(history, spine["deal_id"].iloc[0], PAST)
    others = spine[~spine["deal_id"].isin(spine["deal_id"].iloc[:1])]
    names = [each for each in build_features(seen, history, others.iloc[:1]) if each not in ("deal_id", "as_of")]
    own = [each for each in names if not each.startswith(("owner", "account"))]
    kept, before = (build_features(seen, each, others, names=own) for each in (frozen, history))
    pd.testing.assert_frame_equal(kept, before)


def test_a_baseline_that_serves_says_what_it_says(tables, past_bundle, tmp_path):
    bundle = write_bundle(tmp_path, past_bundle)
    serving = replace(bundle, manifest={**bundle.manifest, "fallback": "base_rate"})
    seen, history = serving.read_history(tables)
    scores = score_deals(serving, seen, history, open_deals(history, PAST), explain=False)
    assert scores["period_win_probability"].to_numpy() == pytest.approx(bundle.baselines["base_rate"].rate)
    assert scores["win_probability"].nunique() > 1


def test_one_chance_that_serves_closes_deals_when_the_model_does_and_wins_the_same_share_of_each(tables, past_bundle):
    served = {None: past_bundle, "one_chance": past_bundle}
    seen, history = past_bundle.read_history(tables)
    for fallback, bundle in served.items():
        card = {**bundle.manifest, "model_version": "one", "fallback": fallback}
        serving = replace(bundle, manifest=card)
        served[fallback] = score_deals(serving, seen, history, open_deals(history, PAST), explain=False)
    own, even = served.values()
    closed = even["period_win_probability"] + even["period_loss_probability"]
    share = past_bundle.manifest["picking"]["share_won"]
    assert 0.1 < share < 0.9
    assert even["period_slip_probability"].to_numpy() == pytest.approx(own["period_slip_probability"].to_numpy())
    assert even["period_win_probability"].to_numpy() == pytest.approx(share * closed.to_numpy())
    assert own["win_probability"].std() > 2 * even["win_probability"].std()


def test_two_models_are_compared_on_snapshots_neither_knew(trained, tables):
    workspace, past, latest = trained
    bundles = [read_bundle(workspace / "bundles" / each.bundle.model_version) for each in (past, latest)]
    comparison = compare_bundles(tables, *bundles).to_dict()
    assert comparison["snapshots"] > 0
    difference = comparison["metrics"]["a"]["log_loss"] - comparison["metrics"]["b"]["log_loss"]
    assert comparison["difference"]["log_loss"]["value"] == pytest.approx(difference)
    named = {"stage", "segment", "region", "deal_type", "pipeline", "size", "period"}
    assert {each["by"] for each in comparison["slices"]} <= named
    assert all(each["deals"] >= 100 for each in comparison["slices"])
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison


def test_a_model_of_other_features_is_judged_by_what_its_past_fits_said(trained, tables):
    workspace, past, latest = trained
    first, second = (read_bundle(workspace / "bundles" / each.bundle.model_version) for each in (past, latest))
    older = replace(first, manifest={**first.manifest, "feature_set_hash": "000000000000"})
    comparison = compare_bundles(tables, older, second)
    common = first.judged.merge(second.judged, on=["deal_id", "as_of"])
    assert comparison.snapshots == len(common) > 0
    said = np.where(common["won_x"] == 1, common["served_x"], 1 - common["served_x"])
    assert comparison.metrics["a"]["log_loss"] == pytest.approx(-np.log(said).mean(), rel=1e-6)


def test_the_card_says_what_past_fits_expected_of_the_last_weeks_and_names_each_alarm(past_bundle):
    drift, limits = past_bundle.manifest["drift"], past_bundle.manifest["limits"]
    assert min(drift[cause]["expected"] for cause in ("won", "lost")) > 0
    alarmed = sum(drift[cause]["alarm"] for cause in ("won", "lost"))
    assert sum(limit.startswith("Drift:") for limit in limits) == alarmed


def test_the_card_says_how_far_the_last_weeks_are_followed(past_bundle):
    following, limits = past_bundle.manifest["following"], past_bundle.manifest["limits"]
    assert sum(following["won"]["observed"]) > 0 and sum(following["lost"]["expected"]) > 0
    moved = abs(np.log(following["won"]["ratio"] / following["lost"]["ratio"])) >= 0.2
    assert sum(limit.startswith("Followed:") for limit in limits) == moved


def test_deals_to_come_are_won_as_fast_as_the_pace_says(past_bundle, tables):
    pace = past_bundle.manifest["following"]["pace"]["ratio"]
    assert abs(np.log(pace)) > 1e-3
    usual = fit_creation(replace(tables, field_classes=past_bundle.field_classes), build_history(tables), PAST)
    for kind, stream in past_bundle.creation.streams.items():
        factor = np.array(stream.end_factor) / usual.streams[kind].end_factor
        assert factor == pytest.approx(pace**WINS_WITH_PACE, rel=1e-3)


def test_a_training_moment_after_the_data_is_a_usage_error(trained, tables):
    with pytest.raises(UsageError, match="do not reach"):
        train(trained[0], as_of=tables.as_of + pd.Timedelta(days=1), now=NOW)


def test_without_closed_deals_there_is_nothing_to_learn(tables):
    history = build_history(tables)
    with pytest.raises(DataUnusable, match="nothing to learn"):
        fit_bundle(tables, history.spells["ended_at"].min() - pd.Timedelta(hours=1))


def test_a_few_closed_deals_give_a_model_that_says_how_many_more_it_needs(tables):
    history = build_history(tables)
    early = history.wins["won_at"].min() + pd.Timedelta(days=5)
    bundle = fit_bundle(tables, early).bundle
    assert any("more are needed" in limit for limit in bundle.manifest["limits"])
    assert any("Not judged" in limit for limit in bundle.manifest["limits"])
    # Without past fits there is no slope to correct: all that moves the fit is what it follows.
    for cause in ("won", "lost"):
        followed = np.log(bundle.manifest["following"][cause]["ratio"])
        assert getattr(bundle.calibration, cause).intercept == pytest.approx(followed, abs=1e-4)
        assert abs(followed) > 1e-3
    scores = score_deals(
        replace(bundle, manifest={**bundle.manifest, "model_version": "early"}),
        tables,
        history,
        open_deals(history, early),
    )
    assert scores["win_probability"].between(0, 1).all()


def test_a_model_of_other_features_is_refused_with_the_way_out(trained, tables, monkeypatch):
    workspace, _, _ = trained
    monkeypatch.setattr("models.bundle.feature_set_hash", lambda: "000000000000")
    with pytest.raises(NoModel, match="trained with other features") as failure:
        bundle_for(workspace, tables.as_of, tables.as_of)
    assert "dealcast train --as-of" in failure.value.details[0].next_step
