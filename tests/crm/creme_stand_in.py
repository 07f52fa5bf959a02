"""Not Creme: a loopback server that answers as our app in it does (crm_modules/creme), for what a real one never does.

What our app itself says is held against a real Creme in test_creme.py.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from invented_company import STAGES, Company, Deal, State
from stand_in import Asked, StandIn, Told

TOKEN = "a-token-of-the-tests"
FIELDS = ("stage", "name", "owner_id", "currency", "amount", "close_date")
CLOSED = {stage for stage, is_closed, _ in STAGES if is_closed}


def deal_id(number: int) -> str:
    return str(4000 + number)


def values(deal: Deal, state: State) -> dict[str, str | None]:
    told = (state.stage, f"Deal {deal.number}", str(70 + deal.owner), "EUR", str(state.amount), state.close_on)
    return dict(zip(FIELDS, told, strict=True))


class CremeStandIn(StandIn):
    """A Creme of the invented company.

    Attributes
    ----------
    page : rows of a page at most; with `repeats` each page begins with the last row of the one before.
    refuses : why it does not take a score, by the opportunity's id.
    """

    def __init__(self, company: Company) -> None:
        super().__init__()
        self.company = company
        self.page, self.repeats = 7, False
        self.refuses: dict[str, str] = {}
        self.token = TOKEN

    def expire(self) -> None:
        """The token was changed."""
        self.token = "another"

    def renew(self) -> None:
        """The token is what it was."""
        self.token = TOKEN

    def answer(self, asked: Asked) -> Told:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return Told({"error": "the token is not DEAL_SCORE_TOKEN of Creme's settings"}, 401)
        what = asked.path.removeprefix("/deal_score/")
        if what == "about":
            return Told(self.about())
        if what == "scores":
            return Told({"refused": self.take(asked.document["scores"])})
        if what == "withdraw":
            for deal in self.company.deals:
                deal.written = {} if deal_id(deal.number) in asked.document["deals"] else deal.written
            return Told({})
        kind = what.removeprefix("pages/")
        found = self.records(kind, asked.document["since"], asked.document["until"])
        after, later = asked.document["after"] or 0, []
        later = [(number, rows) for number, rows in found if number > after][: self.page]
        told: dict[str, list[Any]] = {}
        again = [each for each in found if each[0] <= after][-1:] if self.repeats else []
        for _, rows in [*again, *later]:
            for table, some in rows.items():
                told.setdefault(table, []).extend(some)
        return Told({"tables": told, "next": later[-1][0] if len(later) == self.page else None})

    def about(self) -> dict[str, Any]:
        kinds = ["phases", "users", "organisations", "opportunities", "activities", "gone"]
        return {
            "system": "Creme 2.8.6, stood in for",
            "now": (datetime.now(UTC) + timedelta(seconds=self.clock_ahead)).isoformat(),
            "base_currency": "EUR",
            "time_zone": "UTC",
            "pages": kinds,
            "fields": list(FIELDS),
            "tables": {"deals": len(self.company.deals)},
            "history_since": min(deal.created_at for deal in self.company.deals).isoformat(),
        }

    def records(self, kind: str, since: str | None, until: str) -> list[tuple[int, dict[str, list[Any]]]]:
        """By their numbers, the rows of what was written between two moments."""
        start = datetime.fromisoformat(since) if since else datetime.min.replace(tzinfo=UTC)
        end = datetime.fromisoformat(until)
        company = self.company
        if kind == "phases":
            rows = [
                {
                    "stage": name,
                    "sort_order": str(place),
                    "is_closed": str(closed).lower(),
                    "is_won": str(won).lower(),
                }
                for place, (name, closed, won) in enumerate(STAGES, start=1)
            ]
            return [(place, {"stages": [row]}) for place, row in enumerate(rows, start=1)]
        if kind == "users":
            return [
                (70 + n, {"users": [{"user_id": str(70 + n), "name": f"Seller {n}", "team": "North"}]})
                for n in range(company.sellers)
            ]
        if kind == "organisations":
            return [
                (500 + n, {"accounts": [{"account_id": str(500 + n), "name": f"Customer {n}"}]})
                for n in range(company.accounts)
            ]
        if kind == "opportunities":
            changed = [each for each in company.deals if start <= each.modified_at <= end]
            return [(4000 + each.number, self.deal(each, start)) for each in changed]
        if kind == "activities":
            calls = [each for each in company.calls if start <= each.at <= end]
            return [
                (
                    9000 + call.number,
                    {
                        "activities": [
                            {
                                "activity_id": str(9000 + call.number),
                                "deal_id": deal_id(call.deal),
                                "user_id": str(70 + call.owner),
                                "type": "call",
                                "occurred_at": call.at.isoformat(),
                                "logged_at": call.at.isoformat(),
                                "duration_minutes": str(call.minutes),
                            }
                        ]
                    },
                )
                for call in calls
            ]
        assert kind == "gone", kind
        return []

    def deal(self, deal: Deal, start: datetime) -> dict[str, list[Any]]:
        """An opportunity, and what became of it since a moment."""
        closed_at, before, history = None, dict.fromkeys(FIELDS), []
        for state in deal.states:
            after = values(deal, state)
            closed_at = (closed_at or state.at.isoformat()) if state.stage in CLOSED else None
            history += [
                {
                    "deal_id": deal_id(deal.number),
                    "changed_at": state.at.isoformat(),
                    "field": field,
                    "old_value": before[field],
                    "new_value": after[field],
                    "changed_by": None,
                }
                for field in FIELDS
                if before[field] != after[field] and state.at >= start
            ]
            before = after
        row = {
            "deal_id": deal_id(deal.number),
            "created_at": deal.created_at.isoformat(),
            **before,
            "account_id": str(500 + deal.account),
            "closed_at": closed_at,
            "deleted_at": deal.deleted_at.isoformat() if deal.deleted_at else None,
        }
        return {"deals": [row], "deal_history": history}

    def take(self, scores: list[dict[str, Any]]) -> dict[str, str]:
        deals = {deal_id(each.number): each for each in self.company.deals}
        for score in scores:
            if score["deal_id"] not in self.refuses:
                deals[score["deal_id"]].written = score
        return {each["deal_id"]: self.refuses[each["deal_id"]] for each in scores if each["deal_id"] in self.refuses}

    def scores(self) -> dict[str, float]:
        """What stands in the opportunities, 0..1, by their ids."""
        return {
            deal_id(deal.number): float(str(deal.written["probability"])) for deal in self.company.deals if deal.written
        }
