import numpy as np
import pandas as pd
import pytest

from crm.calendar import Calendar
from models.bins import build_grid
from models.season import Season

CALENDAR = Calendar(base_currency="EUR")
QUIET_AUGUST = Season((1.0,) * 7 + (0.5,) + (1.0,) * 4)


def bins_of(season: Season, moment: str, edges: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Edges and season of the bins ahead of one moment, those without days left out."""
    grid = build_grid(pd.Series([pd.Timestamp(moment, tz="UTC")]), CALENDAR, np.array(edges))
    lively = season.of_bins(grid)[0]
    there = np.diff(grid.edges[0]) > 0
    return grid.edges[0], lively[there]


def test_a_bin_has_the_mean_of_its_days() -> None:
    edges, lively = bins_of(QUIET_AUGUST, "2026-07-22", [0.0, 10.0, 20.0, 41.0, 365.0])
    assert edges.tolist() == [0, 10, 20, 41, 71, 163, 365]
    assert lively[:4].tolist() == pytest.approx([1.0, 0.5, 0.5, 1.0])
    _, lively = bins_of(QUIET_AUGUST, "2026-07-22", [0.0, 20.0, 365.0])
    assert lively[0] == pytest.approx(0.75)


def test_a_moment_within_a_day_counts_the_rest_of_it() -> None:
    _, lively = bins_of(QUIET_AUGUST, "2026-07-31 12:00", [0.0, 1.0, 365.0])
    assert lively[0] == pytest.approx(0.75)


def test_all_days_of_a_year_are_there() -> None:
    season = Season(tuple(np.linspace(0.5, 1.6, 12)))
    for moment in ("2026-01-01", "2027-12-31 23:00", "2028-02-29 06:00"):
        edges, lively = bins_of(season, moment, [0.0, 1.0, 45.0, 365.0])
        days = pd.date_range(pd.Timestamp(moment), periods=365 * 24, freq="h")
        wanted = np.array(season.months)[days.month - 1].mean()
        width = np.diff(edges)
        assert (lively * width[width > 0]).sum() / 365 == pytest.approx(wanted, rel=1e-6)


def test_without_a_season_every_bin_is_like_any_other() -> None:
    _, lively = bins_of(Season(), "2026-07-22", [0.0, 3.0, 30.0, 365.0])
    assert lively.tolist() == [1.0] * len(lively)
    empty = build_grid(pd.Series([], dtype="datetime64[us, UTC]"), CALENDAR, np.array([0.0, 365.0]))
    assert QUIET_AUGUST.of_bins(empty).shape == (0, 3)
