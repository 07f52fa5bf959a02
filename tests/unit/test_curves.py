import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.curves import Curves

log_intensity = st.floats(-12.0, 2.0)
widths = st.lists(st.floats(0.0, 90.0), min_size=1, max_size=8)


@st.composite
def curves(draw: st.DrawFn) -> Curves:
    """One deal's curves, bins of zero width among them."""
    edges = np.concatenate([[0.0], np.cumsum(draw(widths))])
    bins = st.lists(log_intensity, min_size=len(edges) - 1, max_size=len(edges) - 1)
    return Curves(edges[None], np.array([draw(bins)]), np.array([draw(bins)]))


@given(curves(), st.floats(0.0, 1000.0))
def test_won_lost_and_still_open_sum_to_one(deal: Curves, days: float) -> None:
    by = deal.probability_by(days)
    assert (by.won + by.lost + by.still_open).item() == pytest.approx(1.0, abs=1e-12)
    assert min(by.won.item(), by.lost.item(), by.still_open.item()) >= 0.0


@given(curves(), st.floats(0.0, 1000.0), st.floats(0.0, 1000.0))
def test_a_longer_horizon_never_lowers_the_chance_to_have_won_or_lost(deal: Curves, first: float, more: float) -> None:
    sooner, later = deal.probability_by(first), deal.probability_by(first + more)
    assert later.won.item() >= sooner.won.item() - 1e-12
    assert later.lost.item() >= sooner.lost.item() - 1e-12


@given(curves(), st.floats(1.0, 900.0), st.floats(0.01, 0.99))
def test_a_share_of_the_chance_to_win_has_come_by_its_day(deal: Curves, within: float, share: float) -> None:
    day = deal.win_day(share, within=within)
    assert 0.0 <= day.item() <= within
    part = deal.probability_by(within).won.item() * share
    assert deal.probability_by(day).won.item() == pytest.approx(part, rel=1e-6, abs=1e-12)


@given(curves())
def test_the_gradient_is_what_a_small_change_of_an_intensity_does(deal: Curves) -> None:
    by_won, by_lost = deal.win_gradient(365.0)
    step = 1e-5
    for column in range(deal.won.shape[1]):
        nudge = step * np.eye(deal.won.shape[1])[column]
        for won, lost, said in ((nudge, 0.0, by_won), (0.0, nudge, by_lost)):
            up = Curves(deal.edges, deal.won + won, deal.lost + lost).probability_by(365.0).won
            down = Curves(deal.edges, deal.won - won, deal.lost - lost).probability_by(365.0).won
            assert said[0, column] == pytest.approx((up - down).item() / (2 * step), abs=1e-6)


def test_constant_intensities_give_the_textbook_answer() -> None:
    deal = Curves(np.array([[0.0, 10.0, 40.0]]), np.full((1, 2), np.log(0.01)), np.full((1, 2), np.log(0.03)))
    by = deal.probability_by(25.0)
    assert by.won.item() == pytest.approx(0.25 * (1 - np.exp(-0.04 * 25)))
    assert by.lost.item() == pytest.approx(0.75 * (1 - np.exp(-0.04 * 25)))


def test_the_last_bin_goes_on_beyond_its_edge() -> None:
    deal = Curves(np.array([[0.0, 10.0]]), np.array([[np.log(0.01)]]), np.array([[np.log(0.01)]]))
    assert deal.probability_by(1000.0).still_open.item() == pytest.approx(np.exp(-20.0))


def test_each_snapshot_may_have_its_own_horizon() -> None:
    two = Curves(np.tile([0.0, 10.0], (2, 1)), np.full((2, 1), -3.0), np.full((2, 1), -3.0))
    won = two.probability_by(np.array([0.0, 10.0])).won
    assert won[0] == 0.0
    assert won[1] == pytest.approx(two.probability_by(10.0).won[0])


def test_a_shift_of_the_win_intensity_is_one_number_per_snapshot() -> None:
    two = Curves(np.tile([0.0, 10.0], (2, 1)), np.full((2, 1), -3.0), np.full((2, 1), -3.0))
    shifted = two.shifted(won=np.array([0.0, 1.0]))
    assert shifted.won.ravel().tolist() == [-3.0, -2.0]
    assert shifted.lost.ravel().tolist() == [-3.0, -3.0]
