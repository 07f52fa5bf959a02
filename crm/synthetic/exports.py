"""What the CRM delivers at a moment: the contract's tables, as this company keeps them.

Every row has the instant it became known; an export holds the rows known by its moment, and the values the CRM showed then.
So two exports agree on everything before the earlier one, but for what a CRM really overwrites.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from crm.contract import DTYPES, TABLES
from crm.synthetic import recording as rec
from crm.synthetic.company import (
    CATEGORIES,
    COMPETITORS,
    DEAL_TYPES,
    INDUSTRIES,
    LEAD_SOURCES,
    LOSS_REASONS,
    REGIONS,
    SEGMENTS,
    calendar_day,
    day_number,
    day_start,
)
from crm.synthetic.deals import OPEN_STAGES, RENEWAL, typical_quarter
from crm.synthetic.recording import spelled
from crm.synthetic.simulation import CompanyState
from crm.tables import CrmTables

PIPELINES = ("sales", "renewals")
# What the CRM believes; nobody ever checked it against what was won.
DEFAULT_PROBABILITY = ((0.10, 0.20, 0.35, 0.60, 0.75, 0.90), (0.50, 0.70, 0.80, 0.95))

_NAMED = ("Alder", "Birch", "Cedar", "Delta", "Ember", "Falcon", "Granite", "Harbor", "Indigo", "Juniper", "Krypton", "Lumen")
_KINDS = ("Works", "Systems", "Foods", "Labs", "Partners", "Logistics", "Energy", "Textiles", "Media", "Health", "Tools")
_COUNTRIES = {"Americas": "US", "EMEA": "DE", "APAC": "JP", "LATAM": "BR"}
_EMPLOYEES = ((10, 200), (200, 2_000), (2_000, 40_000))


def export(state: CompanyState, as_of: pd.Timestamp | None = None) -> CrmTables:
    """All tables as delivered at `as_of` (UTC; default: the midnight the state has reached).

    Raises
    ------
    ValueError
        If `as_of` lies beyond what was simulated.
    """
    reached = state.company.calendar.midnight(state.on)
    moment = reached if as_of is None else as_of.tz_convert("UTC").as_unit("us")
    if moment > reached:
        raise ValueError(f"The company is simulated until {reached}; it cannot be exported as of {moment}.")
    delivery = _Delivery(state, moment)
    frames = {
        "deals": delivery.deals(),
        "deal_history": delivery.deal_history(),
        "activities": delivery.activities(),
        "accounts": delivery.accounts(),
        "users": delivery.users(),
        "user_history": delivery.user_history(),
        "stages": delivery.stages(),
        "deal_contacts": delivery.deal_contacts(),
        "forecast_calls": delivery.forecast_calls(),
        "quotas": delivery.quotas(),
        "exchange_rates": delivery.exchange_rates(),
    }
    tables = {name: _typed(name, frame) for name, frame in frames.items()}
    tables["deals"]["_first_seen_at"] = pd.Series(pd.NaT, index=tables["deals"].index, dtype=DTYPES["instant"])
    tables["deal_history"]["_sequence"] = np.arange(len(tables["deal_history"]), dtype=float)
    delivered = CrmTables(tables, state.company.calendar, moment, f"synthetic-{moment:%Y%m%dT%H%M%S}", {})
    return replace(delivered, field_classes=_field_classes(delivered))


def _field_classes(delivered: CrmTables) -> dict:
    from crm.history import classify_fields  # the classes need the tables first

    return classify_fields(delivered)


def _typed(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the contract's columns first, all in the contract's dtypes; custom fields are text."""
    declared = {name: DTYPES[column.kind] for name, column in TABLES[table].columns.items()}
    columns = {}
    for name in [*declared, *(name for name in frame.columns if name not in declared)]:
        dtype = declared.get(name, "str")
        columns[name] = frame[name].astype(dtype) if name in frame else pd.Series(None, index=frame.index, dtype=dtype)
    return pd.DataFrame(columns, index=frame.index).reset_index(drop=True)


def _microseconds(instant: pd.Timestamp) -> int:
    return int(instant.as_unit("us").asm8.astype(np.int64))


def _instants(microseconds: np.ndarray) -> pd.Series:
    return pd.Series(pd.to_datetime(np.asarray(microseconds, np.int64), unit="us", utc=True))


def _days(numbers: np.ndarray) -> pd.Series:
    """Day numbers (NaN = unknown) as naive dates."""
    known = np.where(np.isnan(np.asarray(numbers, float)), np.iinfo(np.int64).min, np.nan_to_num(numbers)).astype(np.int64)
    return pd.Series(known.view("datetime64[D]").astype("datetime64[us]"))


def _ids(prefix: str, numbers: np.ndarray) -> np.ndarray:
    return np.char.add(prefix, np.char.zfill(np.asarray(numbers, np.int64).astype(str), 8))


def deal_ids(rows: np.ndarray) -> np.ndarray:
    """The CRM's ids of deals by their row number."""
    return _ids("006", rows + 1)


@dataclass(frozen=True)
class _Delivery:
    """One export in the making."""

    state: CompanyState
    moment: pd.Timestamp

    @property
    def until(self) -> int:
        return _microseconds(self.moment)

    @property
    def is_migrated(self) -> bool:
        migrated = self.state.config.migration_on
        return migrated is not None and self._midnight(day_number(migrated)) <= self.until

    def _midnight(self, day: int) -> int:
        return _microseconds(self.state.company.calendar.midnight(calendar_day(day)))

    def _known(self, table: str) -> dict[str, np.ndarray]:
        columns = self.state.log.columns(table)
        if not columns:
            return {}
        known = columns["at"] + columns.get("delay", np.zeros_like(columns["at"])) <= self.until
        return {name: values[known] for name, values in columns.items()}

    def _changes(self) -> pd.DataFrame:
        """Every change entered by the moment in the order of time, with the value it replaced."""
        changes = pd.DataFrame(self._known("changes") or {c: [] for c in ("deal", "at", "field", "value", "kind", "by")})
        changes = changes.sort_values("at", kind="stable", ignore_index=True)
        changes["old"] = changes.groupby(["deal", "field"])["value"].shift()
        return changes

    def _created(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Deals known, and the created_at the CRM shows."""
        created = self._known("created")
        at = created["at"]
        if self.is_migrated:
            at = np.maximum(at, self._imported_at(created["deal"]))
        return created, at

    def _imported_at(self, deal: np.ndarray) -> np.ndarray:
        """The migration ran through the deals in a night, one a second."""
        migrated = self.state.config.migration_on
        assert migrated is not None
        return self._midnight(day_number(migrated)) + np.asarray(deal, np.int64) * 1_000_000

    # -- deals and their history -----------------------------------------------------------------------------------------

    def deals(self) -> pd.DataFrame:
        created, created_at = self._created()
        deal, rows = created["deal"], self.state.world.rows
        changes = self._changes()
        now = changes.groupby(["deal", "field"])["value"].last().unstack().reindex(deal)
        closings = changes[changes["kind"].eq(rec.CLOSING)].groupby("deal")["at"].last().reindex(deal)
        stage = now[rec.STAGE].to_numpy()
        is_closed = stage >= rec.CLOSED_WON
        kind = rows["type"][deal]
        account = _account_names(created["account"])
        value = {f: now[f].to_numpy() if f in now else np.full(len(deal), np.nan) for f in range(len(rec.FIELDS))}
        closed_at = _instants(closings.fillna(0).to_numpy()).where(pd.Series(is_closed))
        return pd.DataFrame(
            {
                "deal_id": deal_ids(deal),
                "created_at": _instants(created_at),
                "stage": self._text(rec.STAGE, stage, kind),
                "account_id": _ids("001", created["account"] + 1),
                "owner_id": self._text(rec.OWNER, value[rec.OWNER], kind),
                "name": [f"{a} – {DEAL_TYPES[k]}" for a, k in zip(account, kind, strict=True)],
                "pipeline": np.array(PIPELINES)[(kind == RENEWAL).astype(int)],
                "deal_type": np.array(DEAL_TYPES)[kind],
                "lead_source": np.array(LEAD_SOURCES)[rows["source"][deal]],
                "currency": np.array(self.state.config.currencies)[rows["currency"][deal]],
                "amount": value[rec.AMOUNT],
                "close_date": _days(value[rec.CLOSE_DATE]),
                "forecast_category": self._text(rec.CATEGORY, value[rec.CATEGORY], kind),
                "closed_at": closed_at,
                "is_closed": is_closed,
                "is_won": stage == rec.CLOSED_WON,
                "loss_reason": spelled(
                    np.where(stage == rec.CLOSED_LOST, value[rec.LOSS_REASON], np.nan), dict(enumerate(LOSS_REASONS))
                ),
                "competitor": self._text(rec.COMPETITOR, value[rec.COMPETITOR], kind),
            }
        )

    def deal_history(self) -> pd.DataFrame:
        changes = self._changes()
        if self.is_migrated:
            changes = self._reimported(changes)
        changes = changes[self._is_recorded(changes)]
        kind = self.state.world.rows["type"][changes["deal"].to_numpy(np.int64)]
        old, new = np.full(len(changes), None, object), np.full(len(changes), None, object)
        for of in changes["field"].unique():
            its = changes["field"].eq(of).to_numpy()
            old[its] = self._text(of, changes["old"].to_numpy()[its], kind[its])
            new[its] = self._text(of, changes["value"].to_numpy()[its], kind[its])
        users = np.array([p.user_id for p in self.state.company.people])
        return pd.DataFrame(
            {
                "deal_id": deal_ids(changes["deal"]),
                "changed_at": _instants(changes["at"].to_numpy()),
                "field": np.array(rec.FIELDS)[changes["field"].to_numpy(np.int64)],
                "old_value": old,
                "new_value": new,
                "changed_by": users[changes["by"].to_numpy(np.int64)],
            }
        )

    def _is_recorded(self, changes: pd.DataFrame) -> pd.Series:
        config, kind = self.state.config, changes["kind"]
        recorded = kind.eq(rec.CHANGE)
        if config.initial_rows:
            recorded |= kind.eq(rec.INITIAL)
        if config.log_closings != "silent":
            recorded |= kind.eq(rec.CLOSING)
        if config.log_closings == "all":
            recorded |= kind.eq(rec.OVERWRITE)
        if config.tracked_from is not None:
            recorded &= changes["at"] >= self._midnight(day_number(config.tracked_from))
        return recorded

    def _reimported(self, changes: pd.DataFrame) -> pd.DataFrame:
        """History as a migration leaves it: the values of the day as initial rows, and what came after."""
        at = self._imported_at(changes["deal"].to_numpy())
        before = changes["at"].to_numpy() < at
        carried = changes[before].groupby(["deal", "field"], as_index=False).last()
        carried = carried[carried["field"].ne(rec.LOSS_REASON) & carried["value"].notna()]
        carried = carried.assign(at=self._imported_at(carried["deal"].to_numpy()), kind=rec.INITIAL, old=np.nan)
        return pd.concat([carried, changes[~before]]).sort_values("at", kind="stable", ignore_index=True)

    def _text(self, of: int, value: np.ndarray, deal_type: np.ndarray) -> np.ndarray:
        """Values of a field as the CRM writes them."""
        if of == rec.STAGE:
            closed = {rec.CLOSED_WON: "Closed Won", rec.CLOSED_LOST: "Closed Lost"}
            sales, renewals = (spelled(value, {**dict(enumerate(names)), **closed}) for names in OPEN_STAGES)
            return np.where(deal_type == RENEWAL, renewals, sales)
        if of == rec.AMOUNT:
            return np.array([None if v != v else f"{v:.2f}" for v in value], dtype=object)
        if of == rec.CLOSE_DATE:
            return _days(value).dt.strftime("%Y-%m-%d").to_numpy(object)
        names = {
            rec.CATEGORY: CATEGORIES,
            rec.OWNER: tuple(p.user_id for p in self.state.company.people),
            rec.COMPETITOR: COMPETITORS,
        }
        return spelled(value, dict(enumerate(names[of])))

    # -- activities, contacts, accounts ----------------------------------------------------------------------------------

    def activities(self) -> pd.DataFrame:
        every = self.state.log.columns("activities")
        if not every:
            return pd.DataFrame()
        delay = every["delay"] * self.state.config.late_logging
        known = np.flatnonzero(every["at"] + delay <= self.until)
        order = known[np.argsort((every["at"] + delay)[known], kind="stable")]
        chosen = {name: values[order] for name, values in every.items()}
        account = self.state.seen["account"][chosen["deal"]]
        return pd.DataFrame(
            {
                "activity_id": _ids("00T", order + 1),
                "occurred_at": _instants(chosen["at"]),
                "deal_id": deal_ids(chosen["deal"]),
                "account_id": _ids("001", account + 1),
                "user_id": spelled(chosen["user"], self._user_ids()),
                "contact_id": _ids("003", chosen["contact"] + 1),
                "type": np.array(rec.ACTIVITY_TYPES)[chosen["type"]],
                "direction": spelled(chosen["direction"], {0: "outbound", 1: "inbound"}),
                "logged_at": _instants(chosen["at"] + delay[order]),
                "duration_minutes": np.where(chosen["duration"] > 0, chosen["duration"], np.nan),
            }
        )

    def deal_contacts(self) -> pd.DataFrame:
        contacts = self._known("contacts")
        return pd.DataFrame(
            {
                "deal_id": deal_ids(contacts["deal"]),
                "contact_id": _ids("003", contacts["contact"] + 1),
                "role": np.array(rec.CONTACT_ROLES)[contacts["role"]],
                "added_at": _instants(contacts["at"]),
            }
        )

    def accounts(self) -> pd.DataFrame:
        accounts = self._known("accounts")
        region, traits = np.array(REGIONS)[accounts["region"]], accounts["traits"]
        low, high = np.log(np.array(_EMPLOYEES)[accounts["segment"]]).T
        employees = np.round(np.exp(low + (high - low) * traits))
        return pd.DataFrame(
            {
                "account_id": _ids("001", accounts["account"] + 1),
                "name": _account_names(accounts["account"]),
                "industry": np.array(INDUSTRIES)[(traits * 6_000).astype(int) % len(INDUSTRIES)],
                "segment": np.array(SEGMENTS)[accounts["segment"]],
                "region": region,
                "country": [_COUNTRIES[r] for r in region],
                "employees": employees,
                "annual_revenue": np.round(employees * 150_000 * (0.5 + traits), -3),
                "created_at": _instants(accounts["at"]),
            }
        )

    # -- people, stages, calls, money ------------------------------------------------------------------------------------

    def _user_ids(self) -> dict[int, str]:
        return {i: p.user_id for i, p in enumerate(self.state.company.people)}

    def _moves(self) -> pd.DataFrame:
        """What changed for people by the moment: a new team, its manager, its region, at nine on the day."""
        company = self.state.company
        rows = []
        for move in company.moves:
            at = day_start(move.day, company.config.time_zone) + 8 * 3_600_000_000
            if at > self.until:
                continue
            old, new = (self._place(team) for team in (move.from_team, move.to_team))
            rows += [(move.rep, at, field, old[field], new[field]) for field in old if old[field] != new[field]]
        return pd.DataFrame(rows, columns=["rep", "at", "field", "old_value", "new_value"])

    def _place(self, team: int) -> dict[str, str]:
        company = self.state.company
        manager = company.people[company.config.n_reps + team].user_id
        return {
            "team": company.team_name(team),
            "manager_id": manager,
            "region": REGIONS[int(company.region_of_team[team])],
        }

    def users(self) -> pd.DataFrame:
        company = self.state.company
        rows = []
        for person in company.people:
            hired_at = day_start(person.hired_day, company.config.time_zone) + 8 * 3_600_000_000
            if hired_at > self.until:
                continue
            mailbox_at = self._midnight(person.mailbox_day)
            rows.append(
                {
                    "user_id": person.user_id,
                    "name": person.name,
                    "email": f"{person.name.lower().replace(' ', '.')}.{person.user_id[-3:]}@example.com",
                    "role": person.role,
                    "manager_id": company.people[person.manager].user_id if person.manager >= 0 else None,
                    "team": company.team_name(person.team) if person.team >= 0 else None,
                    "region": REGIONS[person.region] if person.region >= 0 else None,
                    "hired_at": hired_at,
                    "activity_from": mailbox_at if mailbox_at <= self.until else np.nan,
                }
            )
        users = pd.DataFrame(rows)
        for move in self._moves().itertuples():
            users.loc[users["user_id"].eq(company.people[move.rep].user_id), move.field] = move.new_value
        connected = users["activity_from"]
        users["hired_at"] = _instants(users["hired_at"].to_numpy())
        users["activity_from"] = _instants(connected.fillna(0).to_numpy()).where(connected.notna())
        return users

    def user_history(self) -> pd.DataFrame:
        moves, company = self._moves(), self.state.company
        rows = []
        for person in company.people[: company.config.n_reps]:
            hired_at = day_start(person.hired_day, company.config.time_zone) + 8 * 3_600_000_000
            if company.config.initial_rows and hired_at <= self.until:
                rows += [(person.user_id, hired_at, field, None, v) for field, v in self._place(person.team).items()]
        rows += [(company.people[m.rep].user_id, m.at, m.field, m.old_value, m.new_value) for m in moves.itertuples()]
        history = pd.DataFrame(rows, columns=["user_id", "changed_at", "field", "old_value", "new_value"])
        history = history.sort_values("changed_at", kind="stable", ignore_index=True)
        return history.assign(changed_at=_instants(history["changed_at"].to_numpy(np.int64)))

    def stages(self) -> pd.DataFrame:
        rows = []
        for p in range(2 if self.state.config.renewals else 1):
            names, believed = OPEN_STAGES[p], DEFAULT_PROBABILITY[p]
            rows += [(n, i + 1.0, False, False, believed[i], PIPELINES[p]) for i, n in enumerate(names)]
            rows.append(("Closed Won", len(names) + 1.0, True, True, 1.0, PIPELINES[p]))
            rows.append(("Closed Lost", len(names) + 2.0, True, False, 0.0, PIPELINES[p]))
        return pd.DataFrame(
            rows, columns=["stage", "sort_order", "is_closed", "is_won", "default_probability", "pipeline"]
        )

    def forecast_calls(self) -> pd.DataFrame:
        calls = self._known("calls")
        if not calls:
            return pd.DataFrame()
        return pd.DataFrame(
            {
                "user_id": spelled(calls["person"], self._user_ids()),
                "period_start": _days(calls["period_start"]),
                "submitted_at": _instants(calls["at"]),
                "category": np.array(CATEGORIES)[calls["category"]],
                "amount": calls["amount"],
                "currency": self.state.config.currencies[0],
            }
        )

    def quotas(self) -> pd.DataFrame:
        """Each person's own target, set ten days before the quarter; those above carry less than the sum below them."""
        company, rows = self.state.company, []
        n_reps, start = company.config.n_reps, day_number(company.config.start)
        first = company.quarter(start)[0]
        while self._midnight(first - 10) <= self.until or first <= start:
            growth = 1.02 ** ((first - start) / 91)
            own = 1.1 * typical_quarter(company) * growth * np.exp(0.5 * company.skill) * (company.hired_day <= first)
            team = company.team_of_reps(first - 10)
            by_team = np.bincount(team, own, company.config.n_teams)
            by_region = np.bincount(company.region_of_team, by_team, company.config.n_regions)
            for i, target in enumerate([*own, *(0.95 * by_team), *(0.9 * by_region), 0.85 * own.sum()]):
                if i >= n_reps or own[i] > 0:
                    rows.append((company.people[i].user_id, first, round(target, -3), self._midnight(first - 10)))
            first = company.quarter(first)[1]
        quotas = pd.DataFrame(rows, columns=["user_id", "period_start", "amount", "valid_from"])
        quotas["period_start"] = _days(quotas["period_start"].to_numpy(float))
        quotas["valid_from"] = _instants(quotas["valid_from"].to_numpy())
        return quotas.assign(currency=company.config.currencies[0])

    def exchange_rates(self) -> pd.DataFrame:
        """A new rate for every currency on the first of each month, the first at the start of the company's first quarter."""
        company, rows = self.state.company, []
        start = company.config.start
        day = company.quarter(day_number(start))[0]
        while self._midnight(day) <= self.until:
            rates = company.rate(day)
            rows += [(c, self._midnight(day), rates[i]) for i, c in enumerate(company.config.currencies)]
            month = calendar_day(day).replace(day=28).toordinal() + 4
            day = day_number(calendar_day(month - calendar_day(0).toordinal()).replace(day=1))
        rates = pd.DataFrame(rows, columns=["currency", "valid_from", "rate_to_base"])
        return rates.assign(valid_from=_instants(rates["valid_from"].to_numpy()))


def _account_names(account: np.ndarray) -> np.ndarray:
    """A readable name for each account number; they repeat after some hundred, with a number added."""
    first, kind = np.array(_NAMED)[account % len(_NAMED)], np.array(_KINDS)[account % len(_KINDS)]
    turn = account // (len(_NAMED) * len(_KINDS))
    named = np.char.add(np.char.add(first, " "), kind)
    return np.where(turn > 0, np.char.add(np.char.add(named, " "), (turn + 1).astype(str)), named)
