"""People and their moves, stages, calls, quotas and exchange rates, as the CRM delivers them."""

import numpy as np
import pandas as pd

from crm.synthetic.company import Person
from crm.synthetic.config import CATEGORIES, REGIONS, calendar_day, day_number
from crm.synthetic.deal_tables import CLOSED_STAGES, PIPELINES
from crm.synthetic.deals import OPEN_STAGES, typical_quarter
from crm.synthetic.delivery import Delivery, dates, instants, spelled

# What the CRM believes; nobody ever checked it against what was won.
_DEFAULT_PROBABILITY = ((0.10, 0.20, 0.35, 0.60, 0.75, 0.90), (0.50, 0.70, 0.80, 0.95))
_QUOTA_NOTICE_DAYS = 10
_QUOTA_STRETCH, _QUOTA_GROWTH = 1.1, 1.02


def users(delivery: Delivery) -> pd.DataFrame:
    """People hired by the moment, as they stand then."""
    company = delivery.company
    people = pd.DataFrame(
        {
            "user_id": company.user_ids,
            "name": [who.name for who in company.people],
            "email": [f"{who.name.lower().replace(' ', '.')}.{who.user_id[-3:]}@example.com" for who in company.people],
            "role": [who.role for who in company.people],
            "manager_id": [company.user_ids[who.manager] if who.manager >= 0 else None for who in company.people],
            "team": [company.team_name(who.team) if who.team >= 0 else None for who in company.people],
            "region": [REGIONS[who.region] if who.region >= 0 else None for who in company.people],
            "hired_at": instants([delivery.opening(who.hired_day) for who in company.people]),
            "activity_from": instants([delivery.midnight(day) for day in company.mailbox_day]),
        }
    )
    for move in _moves(delivery).itertuples():
        people.loc[people["user_id"].eq(move.user_id), move.field] = move.new_value
    people["activity_from"] = people["activity_from"].where(people["activity_from"] <= delivery.moment)
    return people[people["hired_at"] <= delivery.moment]


def user_history(delivery: Delivery) -> pd.DataFrame:
    """Where reps began, and their moves."""
    company, history = delivery.company, _moves(delivery)
    if delivery.config.initial_rows:
        began = [_beginning(delivery, who) for who in company.people[: company.config.n_reps]]
        history = pd.concat([*began, history])
    history = history[history["changed_at"] <= delivery.until].sort_values(
        "changed_at", kind="stable", ignore_index=True
    )
    return history.assign(changed_at=instants(history["changed_at"].to_numpy(float)))


def _place(delivery: Delivery, team: int) -> pd.Series:
    """The fields that say where a rep of a team belongs."""
    company = delivery.company
    manager = company.user_ids[company.config.n_reps + team]
    region = REGIONS[int(company.region_of_team[team])]
    return pd.Series({"team": company.team_name(team), "manager_id": manager, "region": region})


def _beginning(delivery: Delivery, who: Person) -> pd.DataFrame:
    place = _place(delivery, who.team)
    columns = {"user_id": who.user_id, "changed_at": delivery.opening(who.hired_day), "field": place.index}
    return pd.DataFrame({**columns, "old_value": None, "new_value": place.to_numpy()})


def _moves(delivery: Delivery) -> pd.DataFrame:
    """What changed for reps by the moment; changed_at in microseconds."""
    columns = ["user_id", "changed_at", "field", "old_value", "new_value"]
    moves = [pd.DataFrame(columns=columns, dtype=object)]
    for move in delivery.company.moves:
        old, new = _place(delivery, move.from_team), _place(delivery, move.to_team)
        fields = old.index[old != new]
        user_id, at = delivery.company.user_ids[move.rep], delivery.opening(move.day)
        if at <= delivery.until:
            values = {"field": fields, "old_value": old[fields].to_numpy(), "new_value": new[fields].to_numpy()}
            moves.append(pd.DataFrame({"user_id": user_id, "changed_at": at, **values}))
    return pd.concat(moves, ignore_index=True)[columns]


def stages(delivery: Delivery) -> pd.DataFrame:
    """The stages of each pipeline with the CRM's own probabilities."""
    rows = []
    for p in range(2 if delivery.config.renewals else 1):
        believed = (*_DEFAULT_PROBABILITY[p], 1.0, 0.0)
        for place, stage in enumerate((*OPEN_STAGES[p], *CLOSED_STAGES)):
            rows.append(
                (stage, place + 1, stage in CLOSED_STAGES, stage == CLOSED_STAGES[0], believed[place], PIPELINES[p])
            )
    return pd.DataFrame(rows, columns=["stage", "sort_order", "is_closed", "is_won", "default_probability", "pipeline"])


def forecast_calls(delivery: Delivery) -> pd.DataFrame:
    """The calls submitted by the moment."""
    calls = delivery.known("calls")
    return pd.DataFrame(
        {
            "user_id": spelled(calls["person"], delivery.company.user_ids),
            "period_start": dates(calls["period_start"]),
            "submitted_at": instants(calls["at"]),
            "category": spelled(calls["category"], CATEGORIES),
            "amount": calls["amount"],
            "currency": delivery.config.currencies[0],
        }
    )


def quotas(delivery: Delivery) -> pd.DataFrame:
    """Everyone's own target, set days before the quarter; those above carry less than the sum below them."""
    company, start = delivery.company, day_number(delivery.config.start)
    first, rows = company.quarter(start)[0], []
    while (set_at := delivery.midnight(first - _QUOTA_NOTICE_DAYS)) <= delivery.until or first <= start:
        growth = _QUOTA_GROWTH ** ((first - start) / 91)
        own = _QUOTA_STRETCH * typical_quarter(company) * growth * np.exp(0.5 * company.skill)
        own *= company.hired_day <= first
        by_team = np.bincount(company.team_of_reps(first), own, company.config.n_teams)
        by_region = np.bincount(company.region_of_team, by_team, company.config.n_regions)
        targets = [*own, *(0.95 * by_team), *(0.9 * by_region), 0.85 * own.sum()]
        rows += [
            (who.user_id, first, round(t, -3), set_at) for who, t in zip(company.people, targets, strict=True) if t
        ]
        first = company.quarter(first)[1]
    quotas = pd.DataFrame(rows, columns=["user_id", "period_start", "amount", "valid_from"])
    quotas["period_start"], quotas["valid_from"] = dates(quotas["period_start"]), instants(quotas["valid_from"])
    return quotas.assign(currency=delivery.config.currencies[0])


def exchange_rates(delivery: Delivery) -> pd.DataFrame:
    """A rate for every currency from the start of the company's first quarter, and a new one each month."""
    company, rows = delivery.company, []
    day = company.quarter(day_number(delivery.config.start))[0]
    while (valid_from := delivery.midnight(day)) <= delivery.until:
        codes = zip(company.config.currencies, company.rate(day), strict=True)
        rows += [(code, valid_from, rate) for code, rate in codes]
        day = next(d for d in range(day + 28, day + 32) if calendar_day(d).day == 1)
    rates = pd.DataFrame(rows, columns=["currency", "valid_from", "rate_to_base"])
    return rates.assign(valid_from=instants(rates["valid_from"]))
