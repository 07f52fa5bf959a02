"""A synthetic company with a known truth: its deals, its people, and the CRM they keep.

`simulate` lives it day by day from a seed, `export` writes what the CRM would deliver at a moment, `true_outcomes`
runs the state of a day forward many times, so that the probability of every outcome and the distribution of bookings
are known.

Hidden from every export: a deal's fit and momentum, the buyer's own decision day, whether the buyer has already said
no (zombies), the shocks that company, region and team share, the reps' skill, hygiene and bias. Visible: what these
leave behind in stages, pushes, amounts, categories, activities, contacts, competitors and calls. See `deals` for the
law and `recording` for the traces.

Units: days are local days, intensities are per business day, amounts in the deal's currency, bookings in base
currency.
"""

from crm.synthetic.config import (
    CompanyConfig,
)
from crm.synthetic.exports import export
from crm.synthetic.simulation import CompanyState, simulate
from crm.synthetic.truth import Futures, TrueOutcomes, run_forward, true_bookings, true_outcomes

__all__ = [
    "CompanyConfig",
    "CompanyState",
    "Futures",
    "TrueOutcomes",
    "export",
    "run_forward",
    "simulate",
    "true_bookings",
    "true_outcomes",
]
