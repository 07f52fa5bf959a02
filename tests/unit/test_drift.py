import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from crm.calendar import Calendar
from crm.contract import empty_frame
from crm.history import build_history
from crm.tables import CrmTables
from models.baselines import BASELINES
from models.calibration import CauseCalibration, HazardCalibration
from models.hazard import HazardMargins
from training.drift import CauseDrift, Drift, find_drift
from training.evaluate import Correction, PastFit, Snapshots, evaluate
from training.following import Following, count_closings

KNOWN_AT = pd.Timestamp("2026-03-02", tz="UTC")


def past_fit(looks: list[tuple[str, int, int, str | None]], *, ended_known: bool = True) -> PastFit:
    """A fit that says of every deal, whenever: won with .01 a day, lost with .02.

    Parameters
    ----------
    looks : deal, how many days before KNOWN_AT it was looked at, how many days later it ended, how (None: still open).
    ended_known : whether the export holds what came after KNOWN_AT.
    """
    deals, ago, days, outcomes = zip(*looks, strict=True)
    as_of = pd.Series([KNOWN_AT - pd.Timedelta(days=each) for each in ago])
    spells = pd.DataFrame({"deal_id": deals, "outcome": pd.Series(outcomes, dtype="str")})
    spells["ended_at"] = (as_of + pd.to_timedelta(list(days), unit="D")).where(spells["outcome"].notna())
    spells = spells.drop_duplicates("deal_id").assign(opened_at=KNOWN_AT - pd.Timedelta(days=200))
    if not ended_known:
        known = spells["ended_at"] <= KNOWN_AT
        spells = spells.assign(ended_at=spells["ended_at"].where(known), outcome=spells["outcome"].where(known))
    tables = CrmTables({"deals": empty_frame("deals")}, Calendar(base_currency="EUR"), KNOWN_AT, "1", {})
    features = pd.DataFrame({"deal_id": pd.Series(deals, dtype="str"), "as_of": as_of})
    judged = Snapshots(features, as_of, replace(build_history(tables), spells=spells), tables)
    level = {cause: np.full((len(looks), 2), np.log(rate)) for cause, rate in (("won", 0.01), ("lost", 0.02))}
    nothing = {cause: np.zeros((len(looks), 2)) for cause in level}
    edges = np.tile([0.0, 10.0, 365.0], (len(looks), 1))
    return PastFit(as_of.min(), judged, HazardMargins(edges, level, nothing, nothing), {}, 1.0)


def drift_of(*fits: PastFit) -> Drift:
    return find_drift(fits, Correction(), KNOWN_AT)


def test_expected_are_the_intensities_times_the_days_at_risk_across_bins() -> None:
    drift = drift_of(past_fit([("a", 20, 0, None), ("b", 20, 5, "won")]))
    assert (drift.won.observed, drift.lost.observed) == (1, 0)
    assert drift.won.expected == pytest.approx(0.01 * 25)
    assert drift.lost.expected == pytest.approx(0.02 * 25)


def test_a_deal_looked_at_twice_counts_once_on_both_sides() -> None:
    drift = drift_of(past_fit([("a", 21, 12, "won"), ("a", 14, 5, "won"), ("b", 21, 0, None), ("b", 14, 0, None)]))
    days = 12 + 5 + 21 + 14
    assert drift.won == CauseDrift(1, pytest.approx(0.01 * days / 2))
    assert drift.lost == CauseDrift(0, pytest.approx(0.02 * days / 2))


def test_looks_of_more_than_eight_weeks_ago_do_not_count_and_fits_are_taken_together() -> None:
    drift = drift_of(past_fit([("a", 57, 3, "won"), ("b", 56, 0, None)]), past_fit([("c", 7, 0, None)]))
    assert drift.won == CauseDrift(0, pytest.approx(0.01 * 63))


def test_what_is_expected_is_expected_by_corrected_fits() -> None:
    doubled = HazardCalibration(won=CauseCalibration(intercept=np.log(2.0)))
    drift = find_drift([past_fit([("a", 20, 0, None)])], Correction(calibration=doubled), KNOWN_AT)
    assert (drift.won.expected, drift.lost.expected) == (pytest.approx(0.4), pytest.approx(0.4))


def test_what_is_expected_and_judged_is_what_fits_said_as_they_followed() -> None:
    fit = past_fit([("a", 20, 0, None), ("b", 20, 5, "won")])
    alone = replace(fit, baselines={name: np.full(2, 0.1) for name in BASELINES})
    weeks = {"won": np.array([300.0]), "lost": np.array([0.0])}, {"won": np.array([100.0]), "lost": np.array([0.0])}
    along = replace(alone, following=Following(*weeks))
    ratio = along.following.ratio("won")
    assert ratio > 1.5
    assert drift_of(along).won.expected == pytest.approx(ratio * drift_of(alone).won.expected)
    assert drift_of(along).lost == drift_of(alone).lost
    said = [evaluate([each], KNOWN_AT).judged["model"] for each in (alone, along)]
    assert len(said[0]) == 2 and (said[1] > said[0]).all()


def test_nothing_that_came_later_is_read() -> None:
    looks = [("a", 20, 5, "won"), ("b", 20, 30, "lost"), ("c", 20, 21, "won")]
    fits = [past_fit(looks, ended_known=each) for each in (True, False)]
    known, unknown = (drift_of(fit) for fit in fits)
    assert known == unknown == Drift(CauseDrift(1, pytest.approx(0.45)), CauseDrift(0, pytest.approx(0.9)))
    followed = [
        count_closings(
            fit.margins.blend(0.5), fit.judged.features, fit.judged.outcomes(KNOWN_AT), KNOWN_AT, step_days=7.0
        ).to_dict()
        for fit in fits
    ]
    assert followed[0] == followed[1]
    assert sum(followed[0]["won"]["observed"]) == 1


def test_the_ratio_is_observed_over_expected() -> None:
    assert CauseDrift(90, 45.0).ratio == 2.0
    assert CauseDrift().ratio == 1.0


def test_without_snapshots_there_is_no_drift() -> None:
    assert drift_of() == drift_of(past_fit([("a", 57, 0, None)])) == Drift()
    assert not Drift().won.is_alarming


def test_the_alarm_rings_where_chance_does_not_explain_what_came() -> None:
    # Of 20 expected, Poisson gives 7 or fewer, or 36 or more, each with less than .1 %.
    assert CauseDrift(7, 20.0).is_alarming and CauseDrift(36, 20.0).is_alarming
    assert not CauseDrift(12, 20.0).is_alarming and not CauseDrift(28, 20.0).is_alarming
    assert CauseDrift(20, 20.0).chance == 1.0


def test_the_model_card_s_entry_survives_json() -> None:
    entry = Drift(CauseDrift(36, 20.0), CauseDrift(20, 20.0)).to_dict()
    assert json.loads(json.dumps(entry)) == entry
    assert entry["won"] == {"observed": 36, "expected": 20.0, "ratio": 1.8, "alarm": True}
    assert (entry["lost"]["alarm"], entry["weeks"]) == (False, 8)
