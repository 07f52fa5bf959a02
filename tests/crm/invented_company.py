"""A small company, invented, as any CRM might know it: what the stand-ins serve, and what a sync must bring."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

STAGES = (("Talk", False, False), ("Offer", False, False), ("Signed", True, True), ("Lost", True, False))
"""Stage, is closed, is won."""

CATEGORY = {"Talk": "Pipeline", "Offer": "BestCase", "Signed": "Closed", "Lost": "Omitted"}


@dataclass(frozen=True)
class State:
    """A deal from a moment on."""

    at: datetime
    stage: str
    amount: int
    close_on: str


@dataclass
class Deal:
    """A deal through its states; the first is its creation."""

    number: int
    account: int
    owner: int
    states: list[State]
    deleted_at: datetime | None = None
    merged_into: int | None = None
    written: dict[str, object] = field(default_factory=dict)
    touched_at: datetime | None = None

    @property
    def created_at(self) -> datetime:
        return self.states[0].at

    @property
    def now(self) -> State:
        return self.states[-1]

    @property
    def modified_at(self) -> datetime:
        return max(filter(None, (self.now.at, self.deleted_at, self.touched_at)))


@dataclass
class Call:
    """A conversation about a deal."""

    number: int
    deal: int
    owner: int
    at: datetime
    minutes: int


@dataclass
class Company:
    """Deals, calls, and how many accounts (numbered from 0) and sellers (0 leads the others) there are."""

    deals: list[Deal]
    calls: list[Call]
    accounts: int = 5
    sellers: int = 3

    def open_ones(self) -> list[int]:
        """The numbers of the deals that are there and open."""
        return [deal.number for deal in self.deals if deal.now.stage == "Offer" and not deal.deleted_at]

    def move(self, number: int, stage: str, *, seconds_ago: int = 5) -> None:
        """A deal comes to another stage just now."""
        deal = self.deals[number]
        deal.states.append(State(moments_ago(seconds_ago), stage, deal.now.amount, deal.now.close_on))

    def delete(self, number: int, *, seconds_ago: int = 5) -> None:
        """A deal is thrown away just now."""
        self.deals[number].deleted_at = moments_ago(seconds_ago)

    def add(self, *, seconds_ago: int = 5) -> Deal:
        """A deal begins just now."""
        first = State(moments_ago(seconds_ago), "Talk", 700, "2027-06-30")
        self.deals.append(Deal(len(self.deals), 1, 1, [first]))
        return self.deals[-1]


def moments_ago(seconds: int) -> datetime:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).replace(microsecond=0)


def invented_company(count: int, *, seed: int = 7) -> Company:
    """Deals over a year up to yesterday; the fourth of each twenty was thrown away."""
    chance = random.Random(seed)
    yesterday = moments_ago(86_400)
    deals, calls = [], []
    for number in range(count):
        at = yesterday - timedelta(seconds=chance.randint(40 * 86_400, 365 * 86_400))
        close_on = (at + timedelta(days=60)).date().isoformat()
        states = [State(at, "Talk", chance.randint(1, 90) * 100, close_on)]
        for stage in ("Talk", "Offer", chance.choice(("Signed", "Lost", "Offer"))):
            at += timedelta(seconds=chance.randint(3_600, 13 * 86_400))
            amount = states[-1].amount + 100 * (stage == "Offer" == states[-1].stage)
            states.append(State(at, stage, amount, close_on if stage != "Talk" else f"{at:%Y}-12-31"))
            calls.append(Call(len(calls), number, number % 3, at - timedelta(hours=1), 5 + number))
        deal = Deal(number, number % 5, number % 3, states)
        deal.deleted_at = at + timedelta(hours=2) if number % 20 == 3 else None
        deals.append(deal)
    return Company(deals, calls)
