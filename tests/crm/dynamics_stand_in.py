"""Not Dynamics 365: a loopback server that answers as Dataverse's Web API and Microsoft Entra ID are documented to."""

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from invented_company import Company, Deal
from odata_filter import conditions, met
from stand_in import Asked, StandIn, Told

API = "/api/data/v9.2/"
TENANT, SECRET = "contoso", "a client secret"
EURO, DOLLAR = "e0000000-0000-4000-8000-00000000c0de", "d0000000-0000-4000-8000-00000000c0de"
CATEGORY = {"Talk": 100000001, "Offer": 100000002, "Signed": 100000005, "Lost": 100000006}
STATE = {"Signed": (1, 3), "Lost": (2, 5)}
LABEL, KIND = "OData.Community.Display.V1.FormattedValue", "Microsoft.Dynamics.CRM.lookuplogicalname"
COLUMNS = {
    **dict.fromkeys(("opportunityid", "createdon", "modifiedon", "statecode", "statuscode"), ("Other", False)),
    **dict.fromkeys(("name", "stepname", "estimatedvalue", "actualvalue", "estimatedclosedate"), ("Other", False)),
    **dict.fromkeys(("actualclosedate", "closeprobability", "msdyn_forecastcategory"), ("Other", False)),
    **{"ownerid": ("Owner", False), "parentaccountid": ("Lookup", False), "transactioncurrencyid": ("Lookup", False)},
    **{"parentcontactid": ("Lookup", False), "salesstage": ("Picklist", False), "new_region": ("String", True)},
}
SCORES = ("", "low", "high", "change", "reasons", "asof", "model")
SETS = {
    name: f"{name}s"
    for name in ("opportunity", "account", "connection", "goal", "email", "task", "phonecall", "appointment")
} | {"opportunity": "opportunities", "opportunityclose": "opportunitycloses"}


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def key(kind: str, number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{kind:>012}"


def deal_id(number: int) -> str:
    return key("dea1", number)


def stage_name(stage: str) -> str:
    return {"Signed": "Won"}.get(stage, stage)


class DynamicsStandIn(StandIn):
    """An environment of the invented company.

    Attributes
    ----------
    page : rows of a page at most; with `repeats` each page begins with the last row of the one before.
    refuses : why it does not take a score, by the deal's id.
    untracked : tables whose changes are not tracked; unaudited : columns of opportunities without auditing.
    without : tables that this environment does not have.
    """

    def __init__(self, company: Company) -> None:
        super().__init__()
        self.company = company
        self.page, self.repeats = 7, False
        self.refuses: dict[str, str] = {}
        self.untracked: set[str] = set()
        self.unaudited: set[str] = set()
        self.without: set[str] = set()
        self.with_columns = False
        self.predicted: dict[str, dict[str, Any]] = {}
        self.tokens = 0
        self._expired = 0
        self._reads: list[tuple[list[dict[str, Any]], dict[str, str]]] = []
        self._snapshots: list[dict[str, str]] = []

    def expire(self) -> None:
        """All tokens given so far are worth nothing any more."""
        self._expired = self.tokens

    def forget_changes(self) -> None:
        """Changes are kept for so many days only: no delta link is good any more."""
        self._snapshots = [{} for _ in self._snapshots]

    # -- what it holds -----------------------------------------------------------------------------------------------

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Every row of a set."""
        company = self.company
        old = stamp(company.deals[0].created_at)
        users = [key("5e11", n) for n in range(company.sellers)]
        if name == "opportunities":
            return [self.opportunity(deal) for deal in company.deals if deal.deleted_at is None]
        if name == "audits":
            return [each for deal in company.deals for each, _ in self.log(deal)]
        if name == "opportunitycloses":
            return [
                {"_opportunityid_value": deal_id(deal.number), "createdon": stamp(deal.now.at)}
                for deal in company.deals
                if deal.now.stage in STATE
            ]
        if name == "phonecalls":
            return [
                {"activityid": key("ca11", call.number), "_regardingobjectid_value": deal_id(call.deal)}
                | {f"_regardingobjectid_value@{KIND}": "opportunity", "_ownerid_value": users[call.owner]}
                | {"actualend": stamp(call.at), "createdon": stamp(call.at), "modifiedon": stamp(call.at)}
                | {"directioncode": True, "actualdurationminutes": call.minutes, "statecode": 1}
                for call in company.calls
            ]
        known: dict[str, list[dict[str, Any]]] = {
            "accounts": [
                {"accountid": key("acc0", n), "name": f"Customer {n}", "createdon": old, "modifiedon": old}
                | {"industrycode": 1, f"industrycode@{LABEL}": "Accounting"}
                for n in range(company.accounts)
            ],
            "systemusers": [
                {"systemuserid": user, "fullname": f"Seller {n}", "internalemailaddress": f"s{n}@example.com"}
                | {"_parentsystemuserid_value": users[0] if n else None, "createdon": old}
                | {"_businessunitid_value": key("b0", 1), f"_businessunitid_value@{LABEL}": "Europe"}
                for n, user in enumerate(users)
            ],
            "teams": [
                {"teamid": key("7ea0", n), "name": name, "teamtype": 0, "isdefault": default}
                for n, (name, default) in enumerate((("Europe", True), ("North", False)))
            ],
            "teammemberships": [{"systemuserid": user, "teamid": key("7ea0", n)} for user in users for n in (0, 1)],
            "transactioncurrencies": [
                {"transactioncurrencyid": EURO, "isocurrencycode": "EUR", "exchangerate": 1.0},
                {"transactioncurrencyid": DOLLAR, "isocurrencycode": "USD", "exchangerate": 1.25},
            ],
            "organizations": [{"fiscalcalendarstart": "2026-02-01T00:00:00Z", "_basecurrencyid_value": EURO}],
            "goals": [
                {"_goalownerid_value": users[0], "goalstartdate": "2026-10-01T00:00:00Z", "targetmoney": 9000.0}
                | {"_transactioncurrencyid_value": EURO, "fiscalperiod": period}
                for period in (4, 110)  # the fourth quarter, and October
            ],
            "connections": [
                {"_record1id_value": deal_id(0), "_record2id_value": key("c0", 1), "createdon": old}
                | {f"_record2roleid_value@{LABEL}": "Decision Maker"}
                | {"record1objecttypecode": first, "record2objecttypecode": 2}
                for first in (3, 1)
            ],
        }
        return known.get(name, [])

    def opportunity(self, deal: Deal) -> dict[str, Any]:
        """An opportunity as it stands."""
        times = {"createdon": stamp(deal.created_at), "modifiedon": stamp(deal.modified_at)}
        return {"opportunityid": deal_id(deal.number), **times, **self.columns_at(deal, len(deal.states))}

    def columns_at(self, deal: Deal, states: int) -> dict[str, Any]:
        """The columns of a deal that its first so many states make."""
        now = deal.states[states - 1]
        state, status = STATE.get(now.stage, (0, 1))
        return {
            "name": f"Deal {deal.number}",
            "stepname": next(each.stage for each in reversed(deal.states[:states]) if each.stage not in STATE),
            "statecode": state,
            "statuscode": status,
            "estimatedvalue": float(now.amount),
            "actualvalue": float(now.amount) if state == 1 else None,
            "estimatedclosedate": now.close_on,
            "actualclosedate": f"{now.at:%Y-%m-%d}" if state else None,
            "msdyn_forecastcategory": CATEGORY[now.stage],
            "_ownerid_value": key("5e11", deal.owner),
            "_parentaccountid_value": key("acc0", deal.account),
            "_parentcontactid_value": key("c0", deal.number) if states > 1 else None,
            "_transactioncurrencyid_value": EURO,
            "new_region": f"Region {deal.number % 4}",
        }

    def log(self, deal: Deal) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """The audit log of a deal, the oldest entry first: the records, and their details."""
        told, before = [], dict[str, Any]()
        for count, state in enumerate(deal.states, start=1):
            after = {name: v for name, v in self.columns_at(deal, count).items() if name not in self.unaudited}
            changed = {name for name in after if after[name] != before.get(name)}
            if changed:
                told.append(
                    (
                        state.at,
                        1 if count == 1 else 2,
                        *(
                            {n: v for n, v in each.items() if n in changed and v is not None}
                            for each in (before, after)
                        ),
                    )
                )
            before = after
        if deal.deleted_at:
            whole = {**self.opportunity(deal)}
            told.append((deal.deleted_at, 3, {name: v for name, v in whole.items() if v is not None}, {}))
        kind = {"@odata.type": "#Microsoft.Dynamics.CRM.opportunity"}
        return [
            (
                {"auditid": f"{deal.number:08x}-{place:04x}-4000-8000-0000000a0d17", "createdon": stamp(at)}
                | {"_objectid_value": deal_id(deal.number), "_userid_value": key("5e11", deal.owner)}
                | {"operation": operation, "objecttypecode": "opportunity"},
                {"OldValue": {**kind, **old}, "NewValue": {**kind, **new}},
            )
            for place, (at, operation, old, new) in enumerate(told)
        ]

    # -- what it answers ---------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Told:
        if asked.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            where = f"{self.url.replace('http:', 'https:')}/{TENANT}/oauth2/v2.0"
            return Told(
                {"issuer": where, "authorization_endpoint": f"{where}/authorize", "token_endpoint": f"{where}/token"}
            )
        if asked.path == f"/{TENANT}/oauth2/v2.0/token":
            return self.log_in({name: values[0] for name, values in parse_qs(asked.body.decode()).items()})
        number = asked.headers.get("authorization", "").removeprefix("Bearer token")
        if not number.isdigit() or int(number) <= self._expired:
            return Told({"error": {"code": "0x80072560", "message": "The token is expired."}}, 401)
        assert asked.path.startswith(API), asked.path
        path = asked.path.removeprefix(API)
        told = self.batch(asked) if path == "$batch" else self.of_the_environment(asked, path)
        told.headers["x-ms-ratelimit-burst-remaining-xrm-requests"] = str(6000 - len(self.asked))
        return told

    def log_in(self, said: dict[str, str]) -> Told:
        assert said["grant_type"] == "client_credentials" and said["scope"].endswith("/.default")
        if said["client_secret"] != SECRET:
            return Told({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret."}, 401)
        self.tokens += 1
        return Told({"token_type": "Bearer", "expires_in": 3599, "access_token": f"token{self.tokens}"})

    def batch(self, asked: Asked) -> Told:
        boundary = asked.headers["content-type"].split('boundary="')[1].rstrip('"')
        pieces = asked.body.decode().split(f"--{boundary}")[1:-1]
        assert len(pieces) <= 1000
        told = []
        for piece in pieces:
            _, request, *document = piece.strip().split("\r\n\r\n")
            method, where, _ = request.split("\r\n")[0].split(" ")
            parts = urlsplit(where)
            words = {name: ",".join(values) for name, values in parse_qs(parts.query).items()}
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in request.split("\r\n")[1:])
            }
            one = Asked(method, unquote(parts.path), words, headers, "".join(document).encode())
            done = self.of_the_environment(one, one.path.removeprefix(API))
            body = "" if done.document is None else f"Content-Type: application/json\r\n\r\n{json.dumps(done.document)}"
            told.append(f"--answer\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {done.status} X\r\n{body}\r\n")
        return Told(text="".join(told) + "--answer--\r\n", headers={"content-type": "multipart/mixed; boundary=answer"})

    def of_the_environment(self, asked: Asked, path: str) -> Told:
        if path == "EntityDefinitions":
            return self.definitions(re.findall(r"'(\w+)'", asked.words["$filter"]))
        if path == "EntityDefinitions(LogicalName='opportunity')/Attributes":
            return self.columns()
        if "PicklistAttributeMetadata" in path:
            options = [
                {"Value": n, "Label": {"UserLocalizedLabel": {"Label": w}}} for n, w in enumerate(("Qualify", "Close"))
            ]
            return Told({"OptionSet": {"Options": options}})
        if path == "RetrieveVersion()":
            return Told({"Version": "9.2.26101.1"})
        if path.startswith("RetrieveTotalRecordCount"):
            counts = {"opportunity": len(self.rows("opportunities")), "account": self.company.accounts}
            counts |= {"systemuser": self.company.sellers}
            return Told({"EntityRecordCountCollection": {"Keys": list(counts), "Values": list(counts.values())}})
        if detail := re.fullmatch(r"audits\(([^)]+)\)/Microsoft.Dynamics.CRM.RetrieveAuditDetails", path):
            log = {record["auditid"]: detail for deal in self.company.deals for record, detail in self.log(deal)}
            kind = {"@odata.type": "#Microsoft.Dynamics.CRM.AttributeAuditDetail"}
            return Told({"AuditDetail": {**kind, **log[detail[1]]}})
        if one := re.fullmatch(r"opportunities\(([0-9a-f-]+)\)", path):
            return self.one_opportunity(asked, one[1])
        if score := re.fullmatch(
            r"msdyn_predictivescores\(msdyn_entityid='(.+)',msdyn_entitytype='opportunity'\)", path
        ):
            return self.predict(asked, score[1])
        return self.read(asked, path)

    def definitions(self, names: list[str]) -> Told:
        known = [name for name in (*SETS, "msdyn_predictivescore") if name in names and name not in self.without]
        return Told(
            {
                "value": [
                    {"LogicalName": name, "EntitySetName": SETS.get(name, f"{name}s")}
                    | {"ChangeTrackingEnabled": name not in self.untracked, "IsAuditEnabled": {"Value": True}}
                    for name in known
                ]
            }
        )

    def columns(self) -> Told:
        columns = COLUMNS | (
            {f"dealcast_winprobability{each}": ("Other", True) for each in SCORES} if self.with_columns else {}
        )
        return Told(
            {
                "value": [
                    {"LogicalName": name, "AttributeType": kind, "IsCustomAttribute": custom}
                    | {"IsAuditEnabled": {"Value": name not in self.unaudited}}
                    for name, (kind, custom) in columns.items()
                    if name not in self.without_fields
                ]
            }
        )

    def one_opportunity(self, asked: Asked, deal: str) -> Told:
        there = {each["opportunityid"]: each for each in self.rows("opportunities")}
        if deal not in there:
            return Told(
                {"error": {"code": "0x80040217", "message": f"opportunity With Id = {deal} Does Not Exist"}}, 404
            )
        if asked.method == "GET":
            return Told(only(there[deal], asked.words["$select"].split(",")))
        assert asked.method == "PATCH" and asked.headers["if-match"] == "*"
        if deal in self.refuses:
            return Told({"error": {"code": "0x80040265", "message": self.refuses[deal]}}, 400)
        self.company.deals[int(deal[:8], 16)].written = asked.document
        return Told(status=204)

    def predict(self, asked: Asked, deal: str) -> Told:
        if deal in self.refuses:
            return Told({"error": {"code": "0x80040265", "message": self.refuses[deal]}}, 400)
        if asked.method == "DELETE":
            return Told(status=204 if self.predicted.pop(deal, None) else 404)
        assert asked.method == "PATCH" and "if-match" not in asked.headers
        self.predicted[deal] = asked.document
        return Told(status=204)

    # -- pages and changes -------------------------------------------------------------------------------------------

    def read(self, asked: Asked, name: str) -> Told:
        prefer = asked.headers.get("prefer", "")
        if "$skiptoken" in asked.words:
            return self.one_page(name, *map(int, asked.words["$skiptoken"].split("-")))
        wanted = asked.words["$select"].split(",")
        if "$deltatoken" in asked.words:
            before = self._snapshots[int(asked.words["$deltatoken"])]
            if not before:
                return Told(
                    {
                        "error": {
                            "code": "0x80044352",
                            "message": "Version stamp associated with the client has expired.",
                        }
                    },
                    400,
                )
            rows = [each for each in self.rows(name) if before.get(self.id_of(each)) != json.dumps(each)]
            there = {self.id_of(each) for each in self.rows(name)}
            found = [only(each, wanted) for each in rows]
            found += [
                {"@odata.context": "…/$deletedEntity", "id": each, "reason": "deleted"}
                for each in before
                if each not in there
            ]
        else:
            assert "odata.track-changes" not in prefer or not {"$filter", "$orderby", "$top"} & asked.words.keys()
            found = [only(each, wanted) for each in self.found(name, asked.words)]
        ends: dict[str, str] = {}
        if "odata.track-changes" in prefer:
            assert name not in {SETS[each] for each in self.untracked}, f"{name} has no change tracking"
            self._snapshots.append({self.id_of(each): json.dumps(each) for each in self.rows(name)} or {"": ""})
            token = len(self._snapshots) - 1
            ends["@odata.deltaLink"] = f"{self.url}{API}{name}?$select={','.join(wanted)}&$deltatoken={token}"
        self._reads.append((found, ends))
        return self.one_page(name, len(self._reads) - 1, 0)

    def one_page(self, name: str, read: int, start: int) -> Told:
        found, ends = self._reads[read]
        end = start + self.page
        page = {"value": found[max(0, start - self.repeats) : end]}
        more = {"@odata.nextLink": f"{self.url}{API}{name}?$skiptoken={read}-{end}"} if end < len(found) else ends
        return Told({**page, **more})

    def found(self, name: str, words: dict[str, str]) -> list[dict[str, Any]]:
        rows = [each for each in self.rows(name) if all(met(each, one) for one in conditions(words.get("$filter", "")))]
        if order := words.get("$orderby"):
            column, way = order.split(" ")
            rows.sort(key=lambda each: each[column], reverse=way == "desc")
        return rows[: int(words.get("$top", len(rows)))]

    def id_of(self, row: dict[str, Any]) -> str:
        return next(str(row[name]) for name in ("opportunityid", "accountid", "activityid") if name in row)

    def scores(self) -> dict[str, float]:
        """What stands in the environment, 0..1, by deal id."""
        written = {deal: float(score["msdyn_score"]) for deal, score in self.predicted.items()}
        for deal in self.company.deals:
            if deal.written.get("dealcast_winprobability") is not None:
                written[deal_id(deal.number)] = float(str(deal.written["dealcast_winprobability"]))
        return {deal: score / 100 for deal, score in written.items()}


def only(row: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
    """A row's columns that were asked for, with what is said about them; of those it does not have, null."""
    said = {name: value for name, value in row.items() if name.split("@")[0] in wanted}
    return {"@odata.etag": 'W/"1"', **dict.fromkeys(wanted), **said}
