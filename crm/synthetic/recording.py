"""What reps write down about deals: created, edited, moved, closed, reopened, handed over.

Reps see momentum through a noise of their own, hope more or less (`bias`), and edit more or less often (`hygiene`).
What they enter never feeds back into the deal.
"""

import numpy as np

from crm.synthetic.config import CATEGORIES, LOSS_REASONS
from crm.synthetic.deals import EXPANSION, OPEN, RENEWAL, WON, Rows
from crm.synthetic.journal import (
    AMOUNT,
    CATEGORY,
    CHANGE,
    CLOSE_DATE,
    CLOSED_LOST,
    CLOSED_WON,
    CLOSING,
    COMPETITOR,
    INITIAL,
    LOSS_REASON,
    OVERWRITE,
    OWNER,
    STAGE,
    UNTRACKED,
    Workday,
)
from crm.synthetic.law import DayEvents
from crm.synthetic.traces import add_contacts, log_activities, meet_contacts, submit_calls

_PIPELINE, _BEST_CASE, _MOST_LIKELY, _COMMIT, _CLOSED, _OMITTED = range(len(CATEGORIES))
# Log-odds a rep feels by stage, for sales and renewals, and from where on a category is chosen.
_STAGE_CONFIDENCE = np.array([[-2.6, -2.1, -1.4, -0.5, 0.6, 1.9], [-0.2, 0.4, 1.0, 2.0, 0.0, 0.0]])
_CATEGORY_FROM = np.array([-0.9, 0.3, 1.4])


def record(today: Workday, happened: DayEvents) -> None:
    """Enter everything that reps enter on a day on which this happened."""
    _hand_over(today, happened.handed_over)
    _create(today, happened.created)
    _reopen(today, happened.reopened)
    _look_at_deals(today, happened)
    _close_won(today, happened.won)
    _close_lost(today, happened.lost)
    log_activities(today, happened)
    meet_contacts(today)
    submit_calls(today)


# -- what a rep thinks ---------------------------------------------------------------------------------------------


def _estimated_close_date(today: Workday, deal: np.ndarray) -> np.ndarray:
    """When the rep thinks the buyer will decide: hopeful, noisy, often the quarter's last business day."""
    rows, rng, n = today.deals, today.rng, len(deal)
    hope = 8.0 * today.company.bias[rows["owner"][deal]]
    estimate = rows["buyer_day"][deal] - hope + rng.normal(0.0, 9.0, n)
    estimate = np.where(rows["dead"][deal], today.day + rng.uniform(15.0, 80.0, n), estimate)
    estimate = np.maximum(np.round(estimate), today.day + rng.integers(2, 15, n))
    for i in np.flatnonzero(rng.random(n) < 0.3):
        last = today.company.quarter(int(estimate[i]))[1] - 1
        estimate[i] = last - (0, 0, 0, 0, 0, 1, 2)[(last + 3) % 7]
    return estimate


def _judged_category(today: Workday, deal: np.ndarray) -> np.ndarray:
    """The forecast category a rep would give; a zombie is honestly omitted only by some."""
    rows, seen, company = today.deals, today.seen, today.company
    renewal = (rows["type"][deal] == RENEWAL).astype(int)
    confidence = _STAGE_CONFIDENCE[renewal, rows["stage"][deal]] + 0.8 * rows["momentum"][deal]
    confidence += company.bias[rows["owner"][deal]] + seen["error"][deal]
    confidence -= 0.8 * (seen["close_date"][deal] >= today.quarter[1])
    category = np.searchsorted(_CATEGORY_FROM, confidence)
    honest = today.rng.random(len(deal)) < 0.3 * company.hygiene[rows["owner"][deal]]
    return np.where(rows["dead"][deal] & honest, _OMITTED, category).astype(np.int8)


# -- what a rep enters ---------------------------------------------------------------------------------------------


def _set(
    today: Workday, deal: np.ndarray, at: np.ndarray, of: int, column: str, value: np.ndarray, kind: int = CHANGE
) -> None:
    today.seen[column][deal] = value
    today.enter(deal, at, of, value, kind)


def _hand_over(today: Workday, deal: np.ndarray) -> None:
    if len(deal):
        at = today.hours(8.5, 8.6, 1).repeat(len(deal))
        today.enter(deal, at, OWNER, today.deals["owner"][deal], CHANGE)


def _create(today: Workday, deal: np.ndarray) -> None:
    rows, seen, rng, n = today.deals, today.seen, today.rng, len(deal)
    at = np.sort(today.hours(8.5, 12.0, n))
    account = _accounts_for(today, deal, at)
    withheld = rng.random(n) < today.company.config.missing_amounts
    fresh: Rows = {
        "close_date": np.zeros(n),
        "category": np.zeros(n, np.int8),
        "amount": np.where(withheld, np.nan, rows["amount"][deal]),
        "amount_withheld": withheld,
        "competitor": np.full(n, -1, np.int8),
        "error": rng.normal(0.0, 0.6, n),
        "account": account,
        "contacts": np.zeros(n, np.int32),
    }
    for name, values in fresh.items():
        seen[name] = np.concatenate([seen[name], values])
    seen["close_date"][deal] = _estimated_close_date(today, deal)
    seen["category"][deal] = np.minimum(_judged_category(today, deal), _BEST_CASE)
    today.journal.append("created", deal=deal, at=at, account=account)
    today.enter(deal, at, STAGE, rows["stage"][deal], INITIAL)
    today.enter(deal[~withheld], at[~withheld], AMOUNT, rows["amount"][deal[~withheld]], INITIAL)
    today.enter(deal, at, CLOSE_DATE, seen["close_date"][deal], INITIAL)
    today.enter(deal, at, CATEGORY, seen["category"][deal], INITIAL)
    today.enter(deal, at, OWNER, rows["owner"][deal], INITIAL)
    add_contacts(today, deal, at)


def _accounts_for(today: Workday, deal: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A renewal stays with its account, an expansion goes to a customer, new business to a new account."""
    rows, rng, known = today.deals, today.rng, today.seen["account"]
    region = today.company.region_of_team[today.company.team_of_reps(today.day)[rows["owner"]]]
    customers = np.flatnonzero(rows["status"][: len(known)] == WON)
    first_new = used = int(known.max(initial=-1)) + 1
    chosen = np.empty(len(deal), np.int32)
    for i, row in enumerate(deal):
        alike = customers[(rows["segment"][customers] == rows["segment"][row]) & (region[customers] == region[row])]
        if rows["type"][row] == RENEWAL:
            chosen[i] = known[rows["parent"][row]]
        elif rows["type"][row] == EXPANSION and len(alike):
            chosen[i] = known[rng.choice(alike)]
        else:
            chosen[i], used = used, used + 1
    is_new = chosen >= first_new
    n_new = int(is_new.sum())
    today.journal.append(
        "accounts",
        account=chosen[is_new],
        segment=rows["segment"][deal[is_new]],
        region=region[deal[is_new]],
        at=at[is_new] - rng.integers(60, 1200, n_new) * 1_000_000,
        traits=rng.random(n_new),
    )
    return chosen


def _reopen(today: Workday, deal: np.ndarray) -> None:
    at = today.hours(9.0, 10.0, len(deal))
    today.enter(deal, at, STAGE, today.deals["stage"][deal], CHANGE)
    _set(today, deal, at, CLOSE_DATE, "close_date", _estimated_close_date(today, deal))
    _set(today, deal, at, CATEGORY, "category", np.full(len(deal), _BEST_CASE, np.int8))


def _look_at_deals(today: Workday, happened: DayEvents) -> None:
    """Stage moves are entered on their day, the rest when the rep looks at the deal: soon where something happened."""
    rows, seen = today.deals, today.seen
    looked_at = rows["status"] == OPEN
    looked_at[happened.created] = looked_at[happened.reopened] = False
    deal = np.flatnonzero(looked_at)
    slipped, repriced, moved = (np.isin(deal, e) for e in (happened.slipped, happened.repriced, happened.moved))
    hygiene, overdue = today.company.hygiene[rows["owner"][deal]], seen["close_date"][deal] < today.day
    chance = np.select(
        [moved, slipped, overdue],
        [0.4 + 0.5 * hygiene, 0.2 + 0.5 * hygiene, 0.05 + 0.25 * hygiene],
        0.015 + 0.045 * hygiene,
    )
    chance[repriced] = np.maximum(chance[repriced], 0.6)
    at = np.where(moved, today.hours(13.0, 17.0, len(deal)), today.hours(9.0, 13.0, len(deal)))
    today.enter(deal[moved], at[moved], STAGE, rows["stage"][deal[moved]], CHANGE)
    edited = today.rng.random(len(deal)) < chance
    _edit(today, deal[edited], at[edited])


def _edit(today: Workday, deal: np.ndarray, at: np.ndarray) -> None:
    """Bring amount, close date, category and competitor up to what the rep now thinks, all in one save."""
    rows, seen, rng, n = today.deals, today.seen, today.rng, len(deal)
    seen["error"][deal] = 0.9 * seen["error"][deal] + rng.normal(0.0, 0.26, n)
    amount = rows["amount"][deal]
    differs = (amount != seen["amount"][deal]) & ~seen["amount_withheld"][deal]
    _set(today, deal[differs], at[differs], AMOUNT, "amount", amount[differs])
    estimate, shown = _estimated_close_date(today, deal), seen["close_date"][deal]
    differs = (np.abs(estimate - shown) > 12) | (shown < today.day)
    _set(today, deal[differs], at[differs], CLOSE_DATE, "close_date", estimate[differs])
    category = _judged_category(today, deal)
    differs = category != seen["category"][deal]
    _set(today, deal[differs], at[differs], CATEGORY, "category", category[differs])
    _name_competitor(today, deal, at, 0.5)


def _name_competitor(today: Workday, deal: np.ndarray, at: np.ndarray, chance: float) -> None:
    competitor = today.deals["competitor"][deal]
    learns = (competitor != today.seen["competitor"][deal]) & (today.rng.random(len(deal)) < chance)
    _set(today, deal[learns], at[learns], COMPETITOR, "competitor", competitor[learns])


def _close_won(today: Workday, deal: np.ndarray) -> None:
    """A win shows the closing day, the category closed and the invoiced amount."""
    at = today.hours(17.5, 18.5, len(deal))
    _close(today, deal, at, CLOSED_WON, _CLOSED)
    _set(today, deal, at, AMOUNT, "amount", today.deals["amount"][deal], OVERWRITE)
    today.seen["amount_withheld"][deal] = False


def _close_lost(today: Workday, deal: np.ndarray) -> None:
    """To whom and why a deal was lost is often written only now."""
    at = today.hours(17.5, 18.5, len(deal))
    _name_competitor(today, deal, at, 0.6)
    today.enter(deal, at, LOSS_REASON, today.rng.integers(0, len(LOSS_REASONS), len(deal)), UNTRACKED)
    _close(today, deal, at, CLOSED_LOST, _OMITTED)


def _close(today: Workday, deal: np.ndarray, at: np.ndarray, stage: int, category: int) -> None:
    today.enter(deal, at, STAGE, np.full(len(deal), stage), CLOSING)
    _set(today, deal, at, CLOSE_DATE, "close_date", np.full(len(deal), float(today.day)), OVERWRITE)
    _set(today, deal, at, CATEGORY, "category", np.full(len(deal), category, np.int8), OVERWRITE)
