"""What the past of a party says: rates and means, drawn toward those of a larger group where there is little past."""

from features.spec import Deal, Events, Party, Term


def company_rate(deal: Deal) -> Term:
    """Share of all closed deals of the company that were won, as known at the moment, with a faint prior of 1 in 4."""
    return win_rate(deal.company, toward=0.25, worth=4.0)


def win_rate(party: Party, *, toward: Term | float, worth: float) -> Term:
    """Share of a party's ended deals that were won.

    Parameters
    ----------
    toward : the rate where the party has no ended deal.
    worth : that rate counts as much as so many ended deals.
    """
    won, ended = party.won().count().or_else(0.0), party.ended().count().or_else(0.0)
    return (won + toward * worth) / (ended + worth)


def shrunk_mean(rows: Events, column: str, *, toward: Term, worth: float) -> Term:
    """Mean of a column over a party's rows that have it; without any that of the larger group, as in `win_rate`."""
    known = rows.where(f"{column} IS NOT NULL")
    total, count = known.sum(column).or_else(0.0), known.count().or_else(0.0)
    return (total + toward * worth) / (count + worth)
