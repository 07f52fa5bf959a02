"""Deals, their history, activities, contacts and accounts, as the CRM delivers them."""

import numpy as np
import pandas as pd

from crm.synthetic.config import (
    CATEGORIES,
    COMPETITORS,
    DEAL_TYPES,
    INDUSTRIES,
    LEAD_SOURCES,
    LOSS_REASONS,
    REGIONS,
    SEGMENTS,
    day_number,
)
from crm.synthetic.deals import OPEN_STAGES, RENEWAL
from crm.synthetic.delivery import Delivery, dates, deal_ids, ids, instants, spelled
from crm.synthetic.journal import (
    AMOUNT,
    CATEGORY,
    CHANGE,
    CLOSE_DATE,
    CLOSED_LOST,
    CLOSED_WON,
    CLOSING,
    COMPETITOR,
    FIELDS,
    INITIAL,
    LOSS_REASON,
    OVERWRITE,
    OWNER,
    STAGE,
)
from crm.synthetic.traces import ACTIVITY_TYPES, CONTACT_ROLES

PIPELINES = ("sales", "renewals")
CLOSED_STAGES = ("Closed Won", "Closed Lost")

_FIRST = [
    "Alder",
    "Birch",
    "Cedar",
    "Delta",
    "Ember",
    "Falcon",
    "Granite",
    "Harbor",
    "Indigo",
    "Juniper",
    "Krypton",
    "Lumen",
]
_SECOND = [
    "Works",
    "Systems",
    "Foods",
    "Labs",
    "Partners",
    "Logistics",
    "Energy",
    "Textiles",
    "Media",
    "Health",
    "Tools",
]
_COUNTRY = {"Americas": "US", "EMEA": "DE", "APAC": "JP", "LATAM": "BR"}
_EMPLOYEES = np.array([(10, 200), (200, 2_000), (2_000, 40_000)])


def deals(delivery: Delivery) -> pd.DataFrame:
    """Every deal with the values the CRM shows at the moment."""
    created, rows = delivery.known("created"), delivery.state.world.rows
    deal, kind = created["deal"], rows["type"][created["deal"]]
    latest = delivery.changes.groupby(["deal", "field"])["value"].last().unstack()
    latest = latest.reindex(index=deal, columns=range(len(FIELDS)))
    closings = delivery.changes[delivery.changes["kind"].eq(CLOSING)].groupby("deal")["at"].last().reindex(deal)
    stage = latest[STAGE].to_numpy()
    is_closed, is_lost = stage >= CLOSED_WON, stage == CLOSED_LOST
    account = account_names(created["account"])
    shown = {of: written(delivery, of, latest[of].to_numpy(), kind) for of in (STAGE, OWNER, CATEGORY, COMPETITOR)}
    return pd.DataFrame(
        {
            "deal_id": deal_ids(deal),
            "created_at": instants(np.maximum(created["at"], delivery.imported_at(deal))),
            "stage": shown[STAGE],
            "account_id": ids("001", created["account"]),
            "owner_id": shown[OWNER],
            "name": [f"{name} – {DEAL_TYPES[k]}" for name, k in zip(account, kind, strict=True)],
            "pipeline": spelled(kind == RENEWAL, PIPELINES),
            "deal_type": spelled(kind, DEAL_TYPES),
            "lead_source": spelled(rows["source"][deal], LEAD_SOURCES),
            "currency": spelled(rows["currency"][deal], delivery.config.currencies),
            "amount": latest[AMOUNT].to_numpy(),
            "close_date": dates(latest[CLOSE_DATE].to_numpy()),
            "forecast_category": shown[CATEGORY],
            "closed_at": instants(np.where(is_closed, closings.to_numpy(float), np.nan)),
            "is_closed": is_closed,
            "is_won": stage == CLOSED_WON,
            "loss_reason": spelled(np.where(is_lost, latest[LOSS_REASON].to_numpy(), np.nan), LOSS_REASONS),
            "competitor": shown[COMPETITOR],
        }
    )


def deal_history(delivery: Delivery) -> pd.DataFrame:
    """The changes that left a history row, by how this CRM is kept."""
    changes = delivery.visible_changes()
    changes = changes[_is_recorded(delivery, changes)]
    field_of, kind = changes["field"].to_numpy(), delivery.state.world.rows["type"][changes["deal"].to_numpy()]
    old, new = np.full(len(changes), None, object), np.full(len(changes), None, object)
    for of in np.unique(field_of):
        its = field_of == of
        old[its] = written(delivery, of, changes["old"].to_numpy()[its], kind[its])
        new[its] = written(delivery, of, changes["value"].to_numpy()[its], kind[its])
    return pd.DataFrame(
        {
            "deal_id": deal_ids(changes["deal"].to_numpy()),
            "changed_at": instants(changes["at"].to_numpy()),
            "field": spelled(field_of, FIELDS),
            "old_value": old,
            "new_value": new,
            "changed_by": spelled(changes["by"].to_numpy(), delivery.company.user_ids),
        }
    )


def _is_recorded(delivery: Delivery, changes: pd.DataFrame) -> pd.Series:
    config, kinds = delivery.config, [CHANGE]
    kinds += [INITIAL] if config.initial_rows else []
    kinds += [CLOSING] if config.log_closings != "silent" else []
    kinds += [OVERWRITE] if config.log_closings == "all" else []
    recorded = changes["kind"].isin(kinds)
    if config.tracked_from is not None:
        recorded &= changes["at"] >= delivery.midnight(day_number(config.tracked_from))
    return recorded


def written(delivery: Delivery, of: int, value: np.ndarray, deal_type: np.ndarray) -> np.ndarray:
    """Values of a field as the CRM's history writes them."""
    if of == STAGE:
        sales, renewals = OPEN_STAGES
        place = np.where(deal_type == RENEWAL, value + len(sales), value)
        place = np.where(value >= CLOSED_WON, value - CLOSED_WON + len(sales) + len(renewals), place)
        return spelled(place, (*sales, *renewals, *CLOSED_STAGES))
    if of == AMOUNT:
        return np.array([None if amount != amount else f"{amount:.2f}" for amount in value], dtype=object)
    if of == CLOSE_DATE:
        return dates(value).dt.strftime("%Y-%m-%d").to_numpy(object)
    names = {CATEGORY: CATEGORIES, OWNER: delivery.company.user_ids, COMPETITOR: COMPETITORS}
    return spelled(value, names[of])


def activities(delivery: Delivery) -> pd.DataFrame:
    """Activities logged by the moment, in the order they became known."""
    every = delivery.state.journal.columns("activities")
    known_at = every["at"] + every["delay"] * delivery.config.late_logging
    order = np.argsort(known_at, kind="stable")
    order = order[known_at[order] <= delivery.until]
    chosen = {name: values[order] for name, values in every.items()}
    return pd.DataFrame(
        {
            "activity_id": ids("00T", order),
            "occurred_at": instants(chosen["at"]),
            "deal_id": deal_ids(chosen["deal"]),
            "account_id": ids("001", delivery.state.seen["account"][chosen["deal"]]),
            "user_id": spelled(chosen["user"], delivery.company.user_ids),
            "contact_id": ids("003", chosen["contact"]),
            "type": spelled(chosen["type"], ACTIVITY_TYPES),
            "direction": spelled(chosen["direction"], ("outbound", "inbound")),
            "logged_at": instants(known_at[order]),
            "duration_minutes": np.where(chosen["minutes"] > 0, chosen["minutes"], np.nan),
        }
    )


def deal_contacts(delivery: Delivery) -> pd.DataFrame:
    """The buyers' people on deals."""
    contacts = delivery.known("contacts")
    return pd.DataFrame(
        {
            "deal_id": deal_ids(contacts["deal"]),
            "contact_id": ids("003", contacts["contact"]),
            "role": spelled(contacts["role"], CONTACT_ROLES),
            "added_at": instants(contacts["at"]),
        }
    )


def accounts(delivery: Delivery) -> pd.DataFrame:
    """Buyers, from shortly before their first deal."""
    found = delivery.known("accounts")
    region, traits = spelled(found["region"], REGIONS), found["traits"]
    fewest, most = np.log(_EMPLOYEES[found["segment"]]).T
    employees = np.round(np.exp(fewest + (most - fewest) * traits))
    return pd.DataFrame(
        {
            "account_id": ids("001", found["account"]),
            "name": account_names(found["account"]),
            "industry": spelled((traits * 6_000).astype(int) % len(INDUSTRIES), INDUSTRIES),
            "segment": spelled(found["segment"], SEGMENTS),
            "region": region,
            "country": [_COUNTRY[name] for name in region],
            "employees": employees,
            "annual_revenue": np.round(employees * 150_000 * (0.5 + traits), -3),
            "created_at": instants(found["at"]),
        }
    )


def account_names(account: np.ndarray) -> np.ndarray:
    """A readable name for each account number, with a number from the second round on."""
    turn = account // (len(_FIRST) * len(_SECOND))
    name = np.char.add(np.array(_FIRST)[account % len(_FIRST)], " ")
    name = np.char.add(name, np.array(_SECOND)[account % len(_SECOND)])
    return np.where(turn > 0, np.char.add(np.char.add(name, " "), (turn + 1).astype(str)), name)
