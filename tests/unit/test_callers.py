"""What calls have been worth, and what the model says with them as evidence."""

import numpy as np
import pandas as pd
import pytest
from forecast_company import at

from models.callers import PEERS, caller_traits, tell_callers, with_evidence
from models.forecaster import QUANTILES

CUT = at("2026-02-01")


def record(errors: dict[str, list[float]], *, category="commit", week=5) -> pd.DataFrame:
    """Callers with a list of log errors, one a quarter up to the end of 2025; every quarter brought 100."""
    rows = []
    for user, missed in errors.items():
        for ago, error in enumerate(reversed(missed)):
            start = pd.Timestamp("2025-10-01") - pd.DateOffset(months=3 * ago)
            closed = (start + pd.DateOffset(months=3, days=10)).tz_localize("UTC")
            rows.append((start, closed, week, user, category, 100 * np.exp(error), 100.0))
    columns = ["period_start", "closed_at", "week", "user_id", "category", "called", "actual"]
    return pd.DataFrame(rows, columns=columns)


def traits(errors, **others):
    return caller_traits(record(errors, **others), week=5, cut=CUT)


def test_many_quarters_give_a_caller_the_bias_of_its_own():
    found = traits({"high": [0.3] * 8, "low": [-0.3] * 8})
    assert found.loc[("high", "commit"), "bias"] == pytest.approx(0.3, abs=0.05)
    assert found.loc[("low", "commit"), "bias"] == pytest.approx(-0.3, abs=0.05)
    assert found.loc[(PEERS, "commit"), "bias"] == pytest.approx(0.0, abs=1e-9)


def test_few_quarters_are_drawn_to_the_peers_and_leave_more_doubt():
    errors = {f"peer{place}": [0.5, -0.3] * 4 for place in range(6)} | {"new": [0.9]}
    found = traits(errors)
    assert 0.1 < found.loc[("new", "commit"), "bias"] < 0.6
    assert found.loc[("new", "commit"), "spread"] > found.loc[("peer1", "commit"), "spread"]
    assert found.loc[(PEERS, "commit"), "spread"] > found.loc[("new", "commit"), "spread"]


def test_who_misses_wildly_is_believed_less_than_who_misses_always_by_the_same():
    steady = traits({"a": [0.3] * 8, "b": [0.3] * 8})
    wild = traits({"a": [0.8, -0.2] * 4, "b": [0.3, 0.3] * 4})
    assert steady.loc[("a", "commit"), "spread"] < 0.35 < wild.loc[("a", "commit"), "spread"]


def test_a_commit_is_judged_as_a_floor():
    found = traits({"floor": [-0.2] * 8, "hope": [0.2] * 8}).xs("commit", level="category")
    assert found.loc["floor", "met"] > 0.8 and found.loc["hope", "met"] < 0.2
    # At the level at which it was missed, a floor that is nearly always met costs a little of what was left above it.
    above = 100 - 100 * np.exp(-0.2)
    assert found.loc["floor", "pinball_loss"] == pytest.approx((1 - found.loc["floor", "met"]) * above / 100)


def test_a_quarter_that_brought_nothing_counts_as_a_commit_missed():
    brought = record({"a": [0.0] * 8})
    nothing = brought.assign(actual=brought["actual"].where(brought.index > 0, 0.0))
    always, once = (caller_traits(each, week=5, cut=CUT).loc[("a", "commit")] for each in (brought, nothing))
    assert once["periods"] == always["periods"] == 8
    never = caller_traits(brought.assign(actual=0.0), week=5, cut=CUT).loc[("a", "commit")]
    assert np.isnan(never["pinball_loss"]) and np.isfinite(never["spread"]) and never["met"] < 0.3
    assert once["met"] < always["met"] and once["bias"] > always["bias"] and once["spread"] > 2 * always["spread"]


def test_only_closed_periods_and_weeks_beside_this_one_are_read():
    late = record({"a": [5.0]}).assign(closed_at=CUT + pd.Timedelta(days=1))
    elsewhere = record({"a": [5.0]}, week=9)
    own = record({"a": [0.3] * 4})
    everything = pd.concat([own, late, elsewhere], ignore_index=True)
    pd.testing.assert_frame_equal(caller_traits(everything, week=5, cut=CUT), caller_traits(own, week=5, cut=CUT))
    assert caller_traits(own.iloc[:0], week=5, cut=CUT).empty


def test_traits_are_told_in_words():
    found = traits({"a": [0.2] * 8})
    found.loc[("a", "commit"), ["bias", "spread", "met"]] = np.log(1.18), 0.09, 0.31
    told = tell_callers(found, [("a", "commit"), ("a", "commit"), ("nobody", "commit")], week=5)
    assert told["text"].tolist() == ["commits 18 % high on day 29, ± 9; reached in 3 of 10 periods"]
    assert told["periods"].tolist() == [8]


def node(mean=100.0, spread=0.3, won=20.0) -> pd.DataFrame:
    levels = {"p05": -1.645, "p10": -1.2816, "p25": -0.674, "p50": 0.0, "p75": 0.674, "p90": 1.2816, "p95": 1.645}
    said = {name: mean * np.exp(spread * level) for name, level in levels.items()}
    return pd.DataFrame([{"node_type": "team", "node_id": "T1", "won_to_date": won, "mean": mean, **said}])


def call(value=150.0, user="a", category="commit") -> pd.DataFrame:
    named = {"node_type": "team", "node_id": "T1", "user_id": user, "category": category, "value": value}
    return pd.DataFrame([named])


def test_the_model_moves_towards_a_call_less_its_bias_by_how_sure_each_is():
    known = traits({"a": [0.0] * 8})
    spread = known.loc[("a", "commit"), "spread"]
    found = with_evidence(node(), call(), known).iloc[0]
    weight = 0.3**2 / (0.3**2 + spread**2)
    assert found["value"] == pytest.approx(100 * 1.5**weight, rel=1e-3)
    same = with_evidence(node(), call(100.0), known).iloc[0]
    assert same["value"] == pytest.approx(100.0)
    assert np.log(same["p90"] / same["p10"]) < np.log(node()["p90"] / node()["p10"]).item()
    assert (np.diff([found[name] for name in QUANTILES]) > 0).all()


def test_a_sure_model_hears_little_and_a_biased_caller_is_set_right():
    known = traits({"a": [0.4] * 8, "b": [0.4] * 8})
    little = with_evidence(node(spread=0.02), call(200.0), known).iloc[0]
    assert 100 < little["value"] < 102
    right = with_evidence(node(), call(100 * np.exp(known.loc[("a", "commit"), "bias"])), known).iloc[0]
    assert right["value"] == pytest.approx(100.0)


def test_without_a_record_nobody_is_heard_and_a_new_caller_counts_as_a_peer():
    assert with_evidence(node(), call(), traits({})).empty
    known = traits({"a": [0.0] * 8})
    new = with_evidence(node(), call(user="new"), known).iloc[0]
    old = with_evidence(node(), call(user="a"), known).iloc[0]
    assert 100 < new["value"] < old["value"]
    assert with_evidence(node(), call(0.0), known).empty and with_evidence(node(mean=0.0), call(), known).empty


def test_what_is_won_is_never_taken_back():
    known = traits({"a": [0.0] * 8})
    found = with_evidence(node(won=70.0), call(1.0), known).iloc[0]
    assert found["value"] >= node()["p05"].item() and found["p05"] >= min(70.0, node()["p05"].item())


@pytest.mark.parametrize("called", [20.0, 150.0])
def test_that_nothing_may_come_stays_possible_whatever_is_called(called):
    known = traits({"a": [0.0] * 8})
    doubtful = node().assign(p05=0.0, p10=0.0, won_to_date=0.0)
    found = with_evidence(doubtful, call(called), known).iloc[0]
    assert found["p05"] == found["p10"] == 0.0 < found["p25"]
    assert (np.diff([found[name] for name in QUANTILES]) >= 0).all()
