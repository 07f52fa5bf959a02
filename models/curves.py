"""From intensities of winning and losing to probabilities for any horizon, coherent by construction."""

from dataclasses import dataclass

import numpy as np

# Intensities per day outside this range mean the same as never and at once; the limits keep exp() finite.
_LOWEST, _HIGHEST = -40.0, 7.0


@dataclass(frozen=True)
class Probabilities:
    """Won, lost and still open at a horizon, each (n,); they sum to 1."""

    won: np.ndarray
    lost: np.ndarray
    still_open: np.ndarray


@dataclass(frozen=True)
class Curves:
    """Competing intensities that are constant in each bin of days ahead; the last bin goes on for ever.

    Attributes
    ----------
    edges : (n, m+1) days from as_of, starting at 0. Bins of zero width count for nothing.
    won, lost : (n, m) log-intensities per day.
    """

    edges: np.ndarray
    won: np.ndarray
    lost: np.ndarray

    def take(self, chosen: np.ndarray) -> "Curves":
        """The curves of some of the snapshots."""
        return Curves(self.edges[chosen], self.won[chosen], self.lost[chosen])

    def shifted(self, won: np.ndarray | float = 0.0, lost: np.ndarray | float = 0.0) -> "Curves":
        """The curves with log-intensities moved by a constant, or by one (n,) number per snapshot."""
        return Curves(self.edges, self.won + _column(won), self.lost + _column(lost))

    def with_one_chance(self, share_won: float) -> "Curves":
        """The same closings at the same times, the given share of all of them won (0..1, exclusive)."""
        closing = np.logaddexp(self.won, self.lost)
        return Curves(self.edges, closing + np.log(share_won), closing + np.log1p(-share_won))

    def probability_by(self, days: np.ndarray | float) -> Probabilities:
        """The chance that a deal is won, lost or still open `days` after as_of.

        Cumulative incidence of competing exponentials, exact in each bin: with intensities w and l, hazard h = w + l,
        the part of the survivors won within t days of a bin is (w / h) (1 - exp(-h t)).

        Parameters
        ----------
        days : one horizon, or one per snapshot, >= 0. Beyond the last edge the last bin's intensities continue.
        """
        won, lost = intensities_of(self.won), intensities_of(self.lost)
        at_risk = self._days_at_risk(days)
        hazard = won + lost
        closing = -np.expm1(-hazard * at_risk)
        survivors = _survivors(hazard * at_risk)
        closed = survivors[:, :-1] * closing
        # The open share comes from the same products, so that the three sum to 1 to the last digits.
        shares = closed / hazard
        return Probabilities((shares * won).sum(axis=1), (shares * lost).sum(axis=1), survivors[:, -1])

    def win_day(self, share: float = 0.5, *, within: float = 365.0) -> np.ndarray:
        """(n,) the day by which a share of the chance to win within `within` days has come, in days from as_of."""
        won, lost = intensities_of(self.won), intensities_of(self.lost)
        at_risk = self._days_at_risk(within)
        hazard = won + lost
        survivors = _survivors(hazard * at_risk)[:, :-1]
        gained = survivors * -np.expm1(-hazard * at_risk) * won / hazard
        cumulated = np.cumsum(gained, axis=1)
        wanted = cumulated[:, -1] * share
        column = (cumulated >= wanted[:, None]).argmax(axis=1)
        row = np.arange(len(wanted))
        missing = wanted - (cumulated[row, column] - gained[row, column])
        rate, reach = hazard[row, column], survivors[row, column] * won[row, column]
        return self.edges[row, column] - np.log1p(-np.minimum(missing * rate / reach, 1 - 1e-12)) / rate

    def win_gradient(self, days: float) -> tuple[np.ndarray, np.ndarray]:
        """How the chance to win within `days` moves with each log-intensity of winning and of losing, both (n, m).

        A higher intensity wins (or loses) more of those who reach the bin and leaves fewer for the bins after it.
        """
        won, lost = intensities_of(self.won), intensities_of(self.lost)
        at_risk = self._days_at_risk(days)
        hazard = won + lost
        survivors = _survivors(hazard * at_risk)[:, :-1]
        closing = -np.expm1(-hazard * at_risk) / hazard
        staying = np.exp(-hazard * at_risk) * at_risk
        gained = survivors * won * closing
        later = np.cumsum(gained[:, ::-1], axis=1)[:, ::-1] - gained
        common = survivors * won / hazard * (staying - closing) - at_risk * later
        return won * (survivors * closing + common), lost * common

    def _days_at_risk(self, days: np.ndarray | float) -> np.ndarray:
        width = np.diff(self.edges, axis=1)
        width[:, -1] = np.inf
        return np.clip(_column(days) - self.edges[:, :-1], 0.0, width)


def _column(values: np.ndarray | float) -> np.ndarray:
    return np.asarray(values, dtype=float).reshape(-1, 1)


def intensities_of(log_intensities: np.ndarray) -> np.ndarray:
    """Per day, within what a computer can tell from never and at once."""
    return np.exp(np.clip(log_intensities, _LOWEST, _HIGHEST))


def _survivors(hazard: np.ndarray) -> np.ndarray:
    """(n, m+1) the share still open at the start of each bin, and at the end of the last."""
    gone = np.cumsum(hazard, axis=1)
    return np.exp(-np.hstack([np.zeros((len(gone), 1)), gone]))
