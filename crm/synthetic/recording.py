"""What reps write down: the CRM's view of the deals, and the log of everything that was ever entered.

Reps see momentum through a noise of their own, hope more or less (`bias`), and edit more or less often (`hygiene`). What they
enter never feeds back into the deal. The log keeps every change with its instant and its kind; which kinds left a history row
is decided at export, so the same life can be shown as differently kept CRMs would show it.

Times of a day (local): handovers 8:30, new deals 8:30-12:00, edits 9:00-13:00, stage moves 13:00-17:00, closings 17:30-18:30.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from crm.synthetic.company import CATEGORIES, LOSS_REASONS, Company, day_start
from crm.synthetic.deals import EXPANSION, OPEN, RENEWAL, WON, Rows, World, typical_quarter
from crm.synthetic.law import DayEvents

FIELDS = ("stage", "amount", "close_date", "forecast_category", "owner_id", "competitor", "loss_reason")
STAGE, AMOUNT, CLOSE_DATE, CATEGORY, OWNER, COMPETITOR, LOSS_REASON = range(len(FIELDS))
INITIAL, CHANGE, CLOSING, OVERWRITE, UNTRACKED = range(5)
CLOSED_WON, CLOSED_LOST = 90, 91
ACTIVITY_TYPES = ("email", "call", "meeting", "task")
CONTACT_ROLES = ("user", "champion", "decision maker", "procurement", "legal")
CONTACTS_PER_ACCOUNT = 8

_HOUR = 3_600_000_000
_PIPELINE, _BEST_CASE, _MOST_LIKELY, _COMMIT, _CLOSED, _OMITTED = range(len(CATEGORIES))
_STAGE_CONFIDENCE = np.array([[-2.6, -2.1, -1.4, -0.5, 0.6, 1.9], [-0.2, 0.4, 1.0, 2.0, 0.0, 0.0]])
_CATEGORY_FROM = np.array([-0.9, 0.3, 1.4])


@dataclass
class Log:
    """Append-only chunks of columns, by table: changes, activities, contacts, accounts, calls. Chunks are never altered."""

    chunks: dict[str, list[Rows]] = field(default_factory=dict)

    def copy(self) -> "Log":
        """A log of its own that shares the chunks so far."""
        return Log({table: list(chunks) for table, chunks in self.chunks.items()})

    def append(self, table: str, **columns: np.ndarray | float) -> None:
        """Add rows; scalars are repeated."""
        arrays = np.broadcast_arrays(*columns.values())
        if arrays[0].ndim and arrays[0].size:
            self.chunks.setdefault(table, []).append(dict(zip(columns, (a.copy() for a in arrays), strict=True)))

    def columns(self, table: str) -> Rows:
        """All rows so far, in the order of entry; empty if there is none."""
        chunks = self.chunks.get(table, [])
        return {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]} if chunks else {}


def nothing_seen() -> Rows:
    """The CRM's view before the first deal."""
    return {
        "close_date": np.zeros(0),
        "category": np.zeros(0, np.int8),
        "amount": np.zeros(0),
        "amount_withheld": np.zeros(0, bool),
        "competitor": np.zeros(0, np.int8),
        "error": np.zeros(0),
        "account": np.zeros(0, np.int32),
        "contacts": np.zeros(0, np.int32),
    }


class Recorder:
    """Writes down one day: compares what happened with what the CRM shows, and logs what the reps enter."""

    def __init__(self, company: Company, world: World, seen: Rows, log: Log, day: int, rng: np.random.Generator) -> None:
        self.company, self.world, self.rows, self.seen = company, world, world.rows, seen
        self.log, self.day, self.rng = log, day, rng
        self.midnight = day_start(day, company.config.time_zone)
        self.quarter = company.quarter(day)

    def record(self, happened: DayEvents) -> None:
        """Everything that is entered on the day, in the order of the day."""
        self._hand_over(happened.handed_over)
        self._create(happened.created)
        self._reopen(happened.reopened)
        self._edit_and_move(happened)
        self._close(happened.won, happened.lost)
        self._be_active(happened)
        self._meet_contacts()
        if (self.day + 3) % 7 in (0, 4):
            self._call(executive=(self.day + 3) % 7 == 0)

    # -- small tools -----------------------------------------------------------------------------------------------------

    def _between(self, first_hour: float, last_hour: float, n: int) -> np.ndarray:
        """Instants on the day, to the second."""
        seconds = self.rng.integers(int(first_hour * 3600), int(last_hour * 3600), n)
        return self.midnight + seconds * 1_000_000

    def _enter(self, deal: np.ndarray, at: np.ndarray, of: int, value: np.ndarray | float, kind: int) -> None:
        by = self.rows["owner"][deal].astype(np.int32)
        self.log.append("changes", deal=deal, at=at, field=of, value=np.asarray(value, float), kind=kind, by=by)

    def _stage_code(self, deal: np.ndarray) -> np.ndarray:
        return self.rows["stage"][deal].astype(float)

    def _estimated_close_date(self, deal: np.ndarray) -> np.ndarray:
        """When the rep thinks the buyer will decide: hopeful, noisy, often the quarter's last business day."""
        owner, n = self.rows["owner"][deal], len(deal)
        hope = 8.0 * self.company.bias[owner]
        estimate = self.rows["buyer_day"][deal] - hope + self.rng.normal(0.0, 9.0, n)
        estimate = np.where(self.rows["dead"][deal], self.day + self.rng.uniform(15.0, 80.0, n), estimate)
        estimate = np.maximum(np.round(estimate), self.day + self.rng.integers(2, 15, n))
        for i in np.flatnonzero(self.rng.random(n) < 0.3):
            last = self.company.quarter(int(estimate[i]))[1] - 1
            estimate[i] = last - (0, 0, 0, 0, 0, 1, 2)[(last + 3) % 7]
        return estimate

    def _judged_category(self, deal: np.ndarray) -> np.ndarray:
        rows, renewal = self.rows, (self.rows["type"][deal] == RENEWAL).astype(int)
        confidence = _STAGE_CONFIDENCE[renewal, rows["stage"][deal]] + 0.8 * rows["momentum"][deal]
        confidence += self.company.bias[rows["owner"][deal]] + self.seen["error"][deal]
        confidence -= 0.8 * (self.seen["close_date"][deal] >= self.quarter[1])
        category = np.searchsorted(_CATEGORY_FROM, confidence)
        honest = self.rng.random(len(deal)) < 0.3 * self.company.hygiene[rows["owner"][deal]]
        return np.where(rows["dead"][deal] & honest, _OMITTED, category).astype(np.int8)

    # -- what is entered -------------------------------------------------------------------------------------------------

    def _hand_over(self, deal: np.ndarray) -> None:
        if len(deal):
            self._enter(deal, self._between(8.5, 8.6, 1).repeat(len(deal)), OWNER, self.rows["owner"][deal], CHANGE)

    def _create(self, deal: np.ndarray) -> None:
        n = len(deal)
        at = np.sort(self._between(8.5, 12.0, n))
        account = self._accounts_for(deal, at)
        fresh: Rows = {
            "close_date": np.zeros(n),
            "category": np.zeros(n, np.int8),
            "amount": self.rows["amount"][deal],
            "amount_withheld": self.rng.random(n) < self.company.config.missing_amounts,
            "competitor": np.full(n, -1, np.int8),
            "error": self.rng.normal(0.0, 0.6, n),
            "account": account,
            "contacts": np.zeros(n, np.int32),
        }
        fresh["amount"] = np.where(fresh["amount_withheld"], np.nan, fresh["amount"])
        for name, values in fresh.items():
            self.seen[name] = np.concatenate([self.seen[name], values])
        self.seen["close_date"][deal] = self._estimated_close_date(deal)
        self.seen["category"][deal] = np.minimum(self._judged_category(deal), _BEST_CASE)
        self.log.append("created", deal=deal, at=at, account=account)
        self._enter(deal, at, STAGE, self._stage_code(deal), INITIAL)
        priced = ~fresh["amount_withheld"]
        self._enter(deal[priced], at[priced], AMOUNT, self.seen["amount"][deal[priced]], INITIAL)
        self._enter(deal, at, CLOSE_DATE, self.seen["close_date"][deal], INITIAL)
        self._enter(deal, at, CATEGORY, self.seen["category"][deal], INITIAL)
        self._enter(deal, at, OWNER, self.rows["owner"][deal], INITIAL)
        self._add_contact(deal, at)

    def _accounts_for(self, deal: np.ndarray, at: np.ndarray) -> np.ndarray:
        """A renewal stays with its account, an expansion goes to a customer, new business mostly to a new account."""
        rows, chosen = self.rows, np.full(len(deal), -1, np.int32)
        team = self.company.team_of_reps(self.day)
        region = self.company.region_of_team[team[rows["owner"]]]
        earlier = slice(0, len(self.seen["account"]))
        customers = np.flatnonzero(rows["status"][earlier] == WON)
        used = int(self.seen["account"].max(initial=-1)) + 1
        for i, row in enumerate(deal):
            kind = rows["type"][row]
            if kind == RENEWAL:
                chosen[i] = self.seen["account"][rows["parent"][row]]
                continue
            if kind == EXPANSION:
                alike = (rows["segment"][customers] == rows["segment"][row]) & (region[customers] == region[row])
                if alike.any():
                    chosen[i] = self.seen["account"][self.rng.choice(customers[alike])]
                    continue
            chosen[i], used = used, used + 1
        is_new = chosen >= int(self.seen["account"].max(initial=-1)) + 1
        self.log.append(
            "accounts",
            account=chosen[is_new],
            segment=rows["segment"][deal[is_new]],
            region=region[deal[is_new]],
            at=at[is_new] - self.rng.integers(60, 1200, int(is_new.sum())) * 1_000_000,
            traits=self.rng.random(int(is_new.sum())),
        )
        return chosen

    def _reopen(self, deal: np.ndarray) -> None:
        if not len(deal):
            return
        at = self._between(9.0, 10.0, len(deal))
        self.seen["close_date"][deal] = self._estimated_close_date(deal)
        self.seen["category"][deal] = _BEST_CASE
        self._enter(deal, at, STAGE, self._stage_code(deal), CHANGE)
        self._enter(deal, at, CLOSE_DATE, self.seen["close_date"][deal], CHANGE)
        self._enter(deal, at, CATEGORY, self.seen["category"][deal], CHANGE)

    def _edit_and_move(self, happened: DayEvents) -> None:
        """Stage moves are entered on their day; the rest when the rep looks at the deal, soonest where something happened."""
        rows, seen, rng = self.rows, self.seen, self.rng
        untouched = np.ones(len(rows["status"]), bool)
        untouched[happened.created] = untouched[happened.reopened] = False
        deal = np.flatnonzero((rows["status"] == OPEN) & untouched)
        hygiene = self.company.hygiene[rows["owner"][deal]]
        chance = 0.015 + 0.045 * hygiene
        overdue = seen["close_date"][deal] < self.day
        at = self._between(9.0, 13.0, len(deal))
        place = np.full(len(untouched), -1)
        place[deal] = np.arange(len(deal))
        moved, slipped, repriced = (place[e[rows["status"][e] == OPEN]] for e in (happened.moved, happened.slipped, happened.repriced))
        chance = np.where(overdue, 0.05 + 0.25 * hygiene, chance)
        chance[slipped] = 0.2 + 0.5 * hygiene[slipped]
        chance[repriced] = np.maximum(chance[repriced], 0.6)
        chance[moved] = 0.4 + 0.5 * hygiene[moved]
        at[moved] = self._between(13.0, 17.0, len(moved))
        self._enter(deal[moved], at[moved], STAGE, self._stage_code(deal[moved]), CHANGE)

        edited = rng.random(len(deal)) < chance
        self._edit(deal[edited], at[edited])

    def _edit(self, deal: np.ndarray, at: np.ndarray) -> None:
        rows, seen, rng = self.rows, self.seen, self.rng
        seen["error"][deal] = 0.9 * seen["error"][deal] + rng.normal(0.0, 0.26, len(deal))
        differs = (rows["amount"][deal] != seen["amount"][deal]) & ~seen["amount_withheld"][deal]
        self._set(deal[differs], at[differs], AMOUNT, "amount", rows["amount"][deal[differs]])
        estimate = self._estimated_close_date(deal)
        shown = seen["close_date"][deal]
        differs = (np.abs(estimate - shown) > 12) | (shown < self.day)
        self._set(deal[differs], at[differs], CLOSE_DATE, "close_date", estimate[differs])
        category = self._judged_category(deal)
        differs = category != seen["category"][deal]
        self._set(deal[differs], at[differs], CATEGORY, "category", category[differs])
        learns = (rows["competitor"][deal] != seen["competitor"][deal]) & (rng.random(len(deal)) < 0.5)
        self._set(deal[learns], at[learns], COMPETITOR, "competitor", rows["competitor"][deal[learns]])

    def _set(self, deal: np.ndarray, at: np.ndarray, of: int, column: str, value: np.ndarray, kind: int = CHANGE) -> None:
        self.seen[column][deal] = value
        self._enter(deal, at, of, value, kind)

    def _close(self, won: np.ndarray, lost: np.ndarray) -> None:
        """Closing writes the stage, and over close date, category, amount, competitor and loss reason."""
        rows, rng = self.rows, self.rng
        for deal, code, category in ((won, CLOSED_WON, _CLOSED), (lost, CLOSED_LOST, _OMITTED)):
            at = self._between(17.5, 18.5, len(deal))
            if code == CLOSED_LOST:
                # Whom a deal was lost to is often written only now.
                named = (rows["competitor"][deal] != self.seen["competitor"][deal]) & (rng.random(len(deal)) < 0.6)
                self._set(deal[named], at[named], COMPETITOR, "competitor", rows["competitor"][deal[named]])
                self._enter(deal, at, LOSS_REASON, rng.integers(0, len(LOSS_REASONS), len(deal)), UNTRACKED)
            self._enter(deal, at, STAGE, np.full(len(deal), float(code)), CLOSING)
            self._set(deal, at, CLOSE_DATE, "close_date", np.full(len(deal), float(self.day)), OVERWRITE)
            self._set(deal, at, CATEGORY, "category", np.full(len(deal), category, np.int8), OVERWRITE)
            if code == CLOSED_WON:
                self._set(deal, at, AMOUNT, "amount", rows["amount"][deal], OVERWRITE)
                self.seen["amount_withheld"][deal] = False

    # -- activities, contacts, calls -------------------------------------------------------------------------------------

    def _be_active(self, happened: DayEvents) -> None:
        """Emails, calls and meetings: theirs tell of momentum, ours of the rep's effort; a zombie answers nobody."""
        rows, rng, company = self.rows, self.rng, self.company
        working = rows["status"] == OPEN
        working[happened.won] = working[happened.lost] = True
        working[happened.created] = False
        deal = np.flatnonzero(working)
        owner, momentum, dead = rows["owner"][deal], rows["momentum"][deal], rows["dead"][deal]
        busy = 1.25 if self.quarter[1] - self.day <= 14 else 1.0
        ours = 0.17 * busy * np.exp(0.2 * momentum + company.effort[owner]) * np.where(dead, 0.35, 1.0)
        theirs = 0.15 * np.exp(1.0 * momentum) * np.where(dead, 0.08, 1.0)
        meetings = 0.045 * np.exp(0.6 * momentum) * (1 + (rows["stage"][deal] > 1)) * np.where(dead, 0.1, 1.0)
        for rate, types, direction in ((ours, (0, 0, 0, 1, 3), 0), (theirs, (0, 0, 0, 1), 1), (meetings, (2,), -1)):
            self._log_activities(deal.repeat(rng.poisson(rate)), np.array(types, np.int8), direction)

    def _log_activities(self, deal: np.ndarray, types: np.ndarray, direction: int) -> None:
        rng, n = self.rng, len(deal)
        at, kind = self._between(8.5, 17.5, n), rng.choice(types, n)
        delay = rng.integers(1, 10 * 86_400, n) * (rng.random(n) < 0.1)
        duration = np.where(kind == 2, rng.choice([30, 45, 60, 90], n), np.where(kind == 1, rng.integers(2, 40, n), 0))
        contact = np.minimum((rng.random(n) * self.seen["contacts"][deal]).astype(int), CONTACTS_PER_ACCOUNT - 1)
        user = self.rows["owner"][deal].astype(np.int32)
        connected = np.array([p.mailbox_day for p in self.company.people])[user] <= self.day
        columns = {
            "deal": deal,
            "at": at,
            "delay": delay * 1_000_000,
            "type": kind,
            "direction": np.full(n, direction, np.int8),
            "user": user,
            "contact": self.seen["account"][deal] * CONTACTS_PER_ACCOUNT + contact,
            "duration": duration.astype(float),
        }
        self.log.append("activities", **{name: values[connected] for name, values in columns.items()})

    def _meet_contacts(self) -> None:
        rows = self.rows
        deal = np.flatnonzero((rows["status"] == OPEN) & (self.seen["contacts"] < CONTACTS_PER_ACCOUNT) & ~rows["dead"])
        deal = deal[self.rng.random(len(deal)) < 0.014 * np.exp(0.5 * rows["momentum"][deal])]
        self._add_contact(deal, self._between(9.0, 17.0, len(deal)))

    def _add_contact(self, deal: np.ndarray, at: np.ndarray) -> None:
        """A further person of the account; deciders show up where the offer fits."""
        n = len(deal)
        decider = self.rng.random(n) < 1 / (1 + np.exp(1.2 - 1.0 * self.rows["fit"][deal]))
        role = np.where(decider, 2, self.rng.choice([0, 0, 1, 3, 4], n)).astype(np.int8)
        contact = self.seen["account"][deal] * CONTACTS_PER_ACCOUNT + self.seen["contacts"][deal]
        self.log.append("contacts", deal=deal, at=at, contact=contact, role=role)
        self.seen["contacts"][deal] += 1

    def _call(self, *, executive: bool) -> None:
        """Reps, managers and directors call on Friday afternoon, the executive on Monday before nine."""
        n_people, n_reps = len(self.company.people), self.company.config.n_reps
        start, end = self.quarter
        team = self.company.team_of_reps(self.day)
        won, likely = self._pipeline_by_rep(start, end)
        for person in range(n_people):
            role_is_executive = self.company.people[person].manager < 0
            if role_is_executive != executive or self.company.people[person].hired_day > self.day:
                continue
            reps = self._reps_under(person, team)
            noise = self.company.call_bias[person] + self.rng.normal(0.0, 0.15 if person < n_reps else 0.08)
            called = won[reps].sum() + likely[reps].sum(axis=0) * np.exp(noise)
            at = self._between(8.0, 8.5, 1) if executive else self._between(15.0 if person < n_reps else 16.5, 17.4, 1)
            self.log.append(
                "calls",
                person=np.full(3, person),
                period_start=start,
                at=at[0],
                category=np.array([_COMMIT, _MOST_LIKELY, _BEST_CASE]),
                amount=np.round(called, -2),
            )

    def _reps_under(self, person: int, team: np.ndarray) -> np.ndarray:
        who = self.company.people[person]
        if person < self.company.config.n_reps:
            return np.array([person])
        if who.team >= 0:
            return np.flatnonzero(team == who.team)
        if who.region >= 0:
            return np.flatnonzero(self.company.region_of_team[team] == who.region)
        return np.arange(self.company.config.n_reps)

    def _pipeline_by_rep(self, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Won this quarter, and what more each rep expects in cumulative categories (reps, 3), base currency."""
        rows, n_reps = self.rows, self.company.config.n_reps
        base = self.company.rate(start)[rows["currency"]]
        booked = (rows["status"] == WON) & (rows["closed_day"] >= start)
        won = np.bincount(rows["owner"][booked], (rows["amount"] * base)[booked], n_reps)
        due = (rows["status"] == OPEN) & (self.seen["close_date"] < end)
        shown = np.nan_to_num(self.seen["amount"]) * base
        left = (end - self.day) / (end - start) * typical_quarter(self.company)
        expected, weights = [], ((_COMMIT, 0.7, 0.5), (_MOST_LIKELY, 0.4, 0.2), (_BEST_CASE, 0.25, 0.2))
        for category, conversion, gut in weights:
            chosen = due & (self.seen["category"] == category)
            expected.append(conversion * np.bincount(rows["owner"][chosen], shown[chosen], n_reps) + gut * left)
        return won, np.cumsum(np.stack(expected, axis=1), axis=1)


def spelled(codes: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    """Codes as their names; NaN and negative codes as missing."""
    return np.array([names.get(int(c)) if c == c and c >= 0 else None for c in codes], dtype=object)
