"""Not HubSpot: a loopback server that answers as its CRM interfaces (v3, associations v4) are documented to."""

from datetime import UTC, datetime
from typing import Any

from invented_company import STAGES, Company, Deal
from stand_in import Asked, StandIn, Told

TOKEN = "pat-eu1-a-token"
SCORES = ("", "_low", "_high", "_change", "_reasons", "_as_of", "_model")
OBJECTS = "/crm/v3/objects/"


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000Z"


def deal_id(number: int) -> str:
    return str(9_000_000_000 + number)


def stage_id(stage: str) -> str:
    return f"stage-{stage.lower()}"


class HubSpotStandIn(StandIn):
    """A portal of the invented company.

    Attributes
    ----------
    page : objects of a page at most; with `repeats` each page begins with the last object of the one before.
    refuses : why it does not take an object, by its id; `refuses_all` refuses the whole batch that holds it.
    """

    def __init__(self, company: Company) -> None:
        super().__init__()
        self.company = company
        self.page, self.repeats = 7, False
        self.refuses: dict[str, str] = {}
        self.refuses_all = False
        self.without_scores, self.without_goals = False, False
        self.token = TOKEN

    def expire(self) -> None:
        """The token was revoked."""
        self.token = "another"

    def renew(self) -> None:
        """The token is worth something again."""
        self.token = TOKEN

    # -- what it holds -----------------------------------------------------------------------------------------------

    def deal(self, deal: Deal) -> dict[str, Any]:
        last = self.company.deals
        merged = [deal_id(other.number) for other in last if other.merged_into == deal.number]
        return {
            "id": deal_id(deal.number),
            "properties": {
                "dealname": f"Deal {deal.number}",
                "dealstage": stage_id(deal.now.stage),
                "pipeline": "default",
                "amount": str(deal.now.amount),
                "closedate": f"{deal.now.close_on}T00:00:00Z",
                "createdate": stamp(deal.created_at),
                "hubspot_owner_id": str(70 + deal.owner),
                "deal_currency_code": "EUR",
                "region": f"Region {deal.number % 4}",
                "hs_merged_object_ids": ";".join(merged) or None,
                "hs_lastmodifieddate": stamp(deal.modified_at),
            },
            "propertiesWithHistory": {
                "dealstage": self.past(deal, lambda state: stage_id(state.stage)),
                "amount": self.past(deal, lambda state: str(state.amount)),
                "closedate": self.past(deal, lambda state: f"{state.close_on}T00:00:00Z"),
            },
            "createdAt": stamp(deal.created_at),
            "updatedAt": stamp(deal.modified_at),
            "archived": deal.deleted_at is not None,
        } | ({"archivedAt": stamp(deal.deleted_at)} if deal.deleted_at else {})

    def past(self, deal: Deal, value_of: Any) -> list[dict[str, str]]:
        """A property's values, the latest first; a value that did not change is not told again."""
        told: list[dict[str, str]] = []
        for state in deal.states:
            if not told or told[0]["value"] != value_of(state):
                told.insert(0, {"value": value_of(state), "timestamp": stamp(state.at), "sourceType": "CRM_UI"})
        return told

    def records(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind, those in the recycling bin too."""
        old = stamp(self.company.deals[0].created_at)
        if kind == "deals":
            return [self.deal(each) for each in self.company.deals if each.merged_into is None]
        if kind == "companies":
            return [
                thing(str(500 + n), {"name": f"Customer {n}", "createdate": old, "hs_lastmodifieddate": old}, old)
                for n in range(self.company.accounts)
            ]
        if kind == "calls":
            return [
                thing(
                    str(600 + call.number),
                    {"hs_timestamp": stamp(call.at), "hs_createdate": stamp(call.at)}
                    | {"hubspot_owner_id": str(70 + call.owner), "hs_call_duration": str(call.minutes * 60_000)}
                    | {"hs_call_direction": "OUTBOUND", "hs_lastmodifieddate": stamp(call.at)},
                    stamp(call.at),
                )
                for call in self.company.calls
            ]
        if kind == "goal_targets":
            ends = {"2026-10-01T00:00:00Z": "2026-12-31T23:59:59Z", "2026-11-01T00:00:00Z": "2026-11-30T23:59:59Z"}
            goals = [{"hs_start_datetime": start, "hs_end_datetime": end} for start, end in ends.items()]
            shared = {"hs_target_amount": "9000", "hs_assignee_user_id": "1070", "hs_lastmodifieddate": old}
            return [thing(str(800 + n), {**goal, **shared}, old) for n, goal in enumerate(goals)]
        assert kind in ("emails", "meetings", "tasks"), kind
        return []

    # -- what it answers ---------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Told:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return Told({"status": "error", "message": "Authentication credentials not found", "category": "x"}, 401)
        if asked.path.startswith(OBJECTS):
            if asked.path.endswith("/goal_targets") and self.without_goals:
                missing = {
                    "status": "error",
                    "category": "MISSING_SCOPES",
                    "message": "requires crm.objects.goals.read",
                }
                return Told(missing, 403)
            return self.of_objects(asked, *asked.path.removeprefix(OBJECTS).split("/"))
        if asked.path == "/crm/v3/owners/":
            return Told({"results": self.owners() if asked.words["archived"] == "False" else []})
        if asked.path == "/crm/v3/pipelines/deals":
            return Told({"results": [self.pipeline()]})
        if asked.path == "/crm/v3/properties/deals":
            return Told({"results": self.properties()})
        assert asked.path.startswith("/crm/v4/associations/"), asked.path
        kind, to = asked.path.removeprefix("/crm/v4/associations/").split("/")[:2]
        return Told(
            {"status": "COMPLETE", "startedAt": stamp(NEVER), "completedAt": stamp(NEVER)}
            | {"results": [self.links(kind, to, each["id"]) for each in asked.document["inputs"]]}
        )

    def of_objects(self, asked: Asked, kind: str, *what: str) -> Told:
        if not what:
            archived = asked.words["archived"] == "True"
            rows = [each for each in self.records(kind) if each["archived"] == archived]
            limit = int(asked.words["limit"])
            assert limit <= (50 if asked.words.get("propertiesWithHistory") else 100)
            wanted = (
                asked.words.get("properties", "").split(","),
                asked.words.get("propertiesWithHistory", "").split(","),
            )
            return self.one_page(rows, int(asked.words.get("after", 0)), min(limit, self.page), wanted)
        if what == ("search",):
            return self.search(kind, asked.document)
        if what == ("batch", "read"):
            ids = [each["id"] for each in asked.document["inputs"]]
            assert len(ids) <= (50 if asked.document["propertiesWithHistory"] else 100)
            rows = [each for each in self.records(kind) if each["id"] in ids and not each["archived"]]
            wanted = asked.document["properties"], asked.document["propertiesWithHistory"]
            return batch([only(each, wanted) for each in rows])
        assert what == ("batch", "update"), what
        return self.update(asked.document["inputs"])

    def one_page(self, rows: list[dict[str, Any]], start: int, limit: int, wanted: Any) -> Told:
        end = start + limit
        page = [only(each, wanted) for each in rows[max(0, start - self.repeats) : end]]
        paging = {"paging": {"next": {"after": str(end)}}} if end < len(rows) else {}
        return Told({"results": page, "total": len(rows), **paging})

    def search(self, kind: str, document: dict[str, Any]) -> Told:
        (between,) = document["filterGroups"][0]["filters"]
        assert (between["operator"], between["propertyName"]) == ("BETWEEN", "hs_lastmodifieddate")
        low, high = int(between["value"]), int(between["highValue"])

        def at(record: dict[str, Any]) -> int:
            return int(datetime.fromisoformat(record["properties"]["hs_lastmodifieddate"]).timestamp() * 1000)

        found = [each for each in self.records(kind) if not each["archived"] and low <= at(each) <= high]
        start = int(document.get("after", 0))
        wanted = (document["properties"], [])
        return self.one_page(sorted(found, key=at), start, document["limit"], wanted)

    def links(self, kind: str, to: str, record: str) -> dict[str, Any]:
        if (kind, to) == ("deals", "companies"):
            found = [str(500 + deal.account) for deal in self.company.deals if deal_id(deal.number) == record]
        else:
            found = [deal_id(call.deal) for call in self.company.calls if str(600 + call.number) == record]
        told = [{"toObjectId": each, "associationTypes": []} for each in found]
        return {"from": {"id": record}, "to": told}

    def owners(self) -> list[dict[str, Any]]:
        old = stamp(self.company.deals[0].created_at)
        shared = {"createdAt": old, "updatedAt": old, "archived": False, "type": "PERSON"}
        return [
            {
                "id": str(70 + n),
                "userId": 1070 + n,
                "email": f"s{n}@example.com",
                "firstName": "Seller",
                "lastName": str(n),
                **shared,
            }
            | {"teams": [{"id": "9", "name": "North", "primary": True}]}
            for n in range(self.company.sellers)
        ]

    def pipeline(self) -> dict[str, Any]:
        old = stamp(self.company.deals[0].created_at)
        shared = {"createdAt": old, "updatedAt": old, "archived": False}
        stages = [
            {"id": stage_id(name), "label": name, "displayOrder": place, **shared}
            | {
                "metadata": {
                    "isClosed": str(closed).lower(),
                    "probability": "1.0" if won else "0.2" if not closed else "0.0",
                }
            }
            for place, (name, closed, won) in enumerate(STAGES)
        ]
        return {"id": "default", "label": "Sales", "displayOrder": 0, "stages": stages, **shared}

    def properties(self) -> list[dict[str, Any]]:
        known = [(name, True) for name in ("dealname", "dealstage", "amount", "closedate", "createdate")]
        known += [("region", False)]
        known += [] if self.without_scores else [(f"dealcast_win_probability{each}", False) for each in SCORES]
        shape = {"type": "string", "fieldType": "text", "groupName": "g", "description": "", "options": []}
        told = [(name, theirs) for name, theirs in known if name not in self.without_fields]
        return [{"name": name, "label": name, "hubspotDefined": theirs, **shape} for name, theirs in told]

    def update(self, inputs: list[dict[str, Any]]) -> Told:
        assert len(inputs) <= 100
        refused = [each["id"] for each in inputs if each["id"] in self.refuses]
        if refused and self.refuses_all:
            error = {"status": "error", "category": "VALIDATION_ERROR", "message": self.refuses[refused[0]]}
            return Told({**error, "correlationId": "x"}, 400)
        deals = {deal_id(each.number): each for each in self.company.deals}
        results, errors = [], []
        for each in inputs:
            if each["id"] in self.refuses:
                told = {"status": "error", "category": "VALIDATION_ERROR", "message": self.refuses[each["id"]]}
                errors.append({**told, "context": {"ids": [each["id"]]}, "links": {}, "errors": []})
                continue
            deals[each["id"]].written = each["properties"]
            results.append(only(self.deal(deals[each["id"]]), ([], [])))
        return batch(results, errors)

    def scores(self) -> dict[str, float]:
        """What stands in the deals, 0..1, by deal id."""
        return {
            deal_id(deal.number): float(str(deal.written["dealcast_win_probability"]))
            for deal in self.company.deals
            if deal.written.get("dealcast_win_probability")
        }


NEVER = datetime(2026, 1, 1, tzinfo=UTC)


def batch(results: list[dict[str, Any]], errors: list[dict[str, Any]] | None = None) -> Told:
    told: dict[str, Any] = {"status": "COMPLETE", "results": results}
    told |= {"startedAt": stamp(NEVER), "completedAt": stamp(NEVER)}
    return Told({**told, "numErrors": len(errors), "errors": errors}, 207) if errors else Told(told)


def thing(record: str, properties: dict[str, Any], at: str) -> dict[str, Any]:
    return {"id": record, "properties": properties, "createdAt": at, "updatedAt": at, "archived": False}


def only(record: dict[str, Any], wanted: tuple[list[str], list[str]]) -> dict[str, Any]:
    """The record with the properties that were asked for; of a property that it does not have, nothing."""
    names, history = wanted
    told = {**record, "properties": {name: record["properties"].get(name) for name in names}}
    past = told.pop("propertiesWithHistory", {})
    return told | ({"propertiesWithHistory": {name: past[name] for name in history if name in past}} if history else {})
