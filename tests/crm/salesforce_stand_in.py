"""Not Salesforce: a loopback server that answers as its REST, Bulk 2.0 and Collections interfaces are documented to."""

import csv
import io
import re
from datetime import datetime, timedelta
from typing import Any

from invented_company import CATEGORY, STAGES, Company, Deal
from stand_in import Asked, StandIn, Told

DATA = "/services/data/v62.0/"
SECRET = "a client secret"
SCORE_FIELDS = ("", "_Low", "_High", "_Change", "_Reasons", "_As_Of", "_Model")


def stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.000+0000"


def key(prefix: str, number: int) -> str:
    return f"{prefix}{number:012d}AAA"


def deal_id(deal: Deal) -> str:
    return key("006", deal.number)


class SalesforceStandIn(StandIn):
    """An org of the invented company.

    Attributes
    ----------
    page : rows of a page; with `repeats` each page begins with the last row of the one before.
    refuses : why it does not take a record, by its id.
    budget : calls used and allowed, as Sforce-Limit-Info tells them.
    without : objects that this org does not have.
    """

    def __init__(self, company: Company) -> None:
        super().__init__()
        self.company = company
        self.page, self.repeats = 7, False
        self.refuses: dict[str, str] = {}
        self.budget = [0, 15_000]
        self.without: set[str] = set()
        self.tokens = 0
        self._expired = 0
        self._cursors: dict[str, list[dict[str, Any]]] = {}
        self._jobs: list[str] = []

    def expire(self) -> None:
        """All tokens given so far are worth nothing any more."""
        self._expired = self.tokens

    # -- what it holds -----------------------------------------------------------------------------------------------

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Every object's records."""
        company = self.company
        old = stamp(company.deals[0].created_at)
        told = {
            "Opportunity": [self.opportunity(deal) for deal in company.deals],
            "OpportunityHistory": [row for deal in company.deals for row in self.states(deal)],
            "OpportunityFieldHistory": self.tracked(company.deals[1]),
            "OpportunityStage": [
                {"MasterLabel": name, "ApiName": name, "SortOrder": place, "IsClosed": closed, "IsWon": won}
                | {"DefaultProbability": 100.0 if won else 20.0}
                for place, (name, closed, won) in enumerate(STAGES, start=1)
            ],
            "Account": [
                {"Id": key("001", n), "Name": f"Customer {n}", "IsDeleted": False, "SystemModstamp": old}
                for n in range(company.accounts)
            ],
            "User": [
                {"Id": key("005", n), "Name": f"Seller {n}", "ManagerId": key("005", 0) if n else None}
                | {"UserRoleId": key("00E", 1), "Department": "North", "SystemModstamp": old}
                for n in range(company.sellers)
            ],
            "UserRole": [{"Id": key("00E", 1), "Name": "Seller"}],
            "Task": [
                {"Id": key("00T", call.number), "WhatId": key("006", call.deal), "OwnerId": key("005", call.owner)}
                | {
                    "TaskSubtype": "Call",
                    "IsClosed": True,
                    "IsDeleted": False,
                    "CallDurationInSeconds": call.minutes * 60,
                }
                | {"CompletedDateTime": stamp(call.at), "CreatedDate": stamp(call.at), "SystemModstamp": stamp(call.at)}
                for call in company.calls
            ],
            "Event": [
                {"Id": key("00U", 1), "WhatId": key("006", 0), "OwnerId": key("005", 0), "StartDateTime": old}
                | {"DurationInMinutes": 45, "IsDeleted": False, "CreatedDate": old, "SystemModstamp": old}
            ],
            "OpportunityContactRole": [
                {"OpportunityId": key("006", 0), "ContactId": key("003", 1), "Role": "Decision Maker"}
                | {"IsDeleted": False, "CreatedDate": old, "SystemModstamp": old}
            ],
            "Period": [{"Id": key("026", 1), "StartDate": "2026-10-01", "EndDate": "2026-12-31", "Type": "Quarter"}],
            "ForecastingItem": [
                {"OwnerId": key("005", 0), "PeriodId": key("026", 1), "ForecastingItemCategory": category}
                | {"AmountWithoutManagerAdjustment": 5000.5, "HasOwnerAdjustment": own}
                | {"LastModifiedDate": old, "SystemModstamp": old}
                for category, own in (("CommitForecast", True), ("BestCaseForecast", False))
            ],
            "ForecastingQuota": [
                {"QuotaOwnerId": key("005", 0), "StartDate": "2026-10-01", "QuotaAmount": 9000.0, "IsAmount": True}
                | {"SystemModstamp": old}
            ],
            "CurrencyType": [
                {"IsoCode": code, "ConversionRate": rate, "IsCorporate": code == "EUR"}
                for code, rate in (("EUR", 1.0), ("USD", 1.25))
            ],
            "DatedConversionRate": [{"IsoCode": "USD", "StartDate": "2020-01-01", "ConversionRate": 1.25}],
            "OpportunitySplitType": [{"Id": key("0cQ", 1), "IsTotalValidated": True}],
            "OpportunitySplit": [
                {"OpportunityId": key("006", 0), "SplitOwnerId": key("005", n), "SplitPercentage": 50.0}
                | {"SplitTypeId": key("0cQ", 1), "IsDeleted": False, "CreatedDate": old, "SystemModstamp": old}
                for n in (0, 1)
            ],
            "Organization": [{"TimeZoneSidKey": "Europe/Berlin", "FiscalYearStartMonth": 2}],
            "FiscalYearSettings": [{"IsStandardYear": True}],
        }
        return {name: rows for name, rows in told.items() if name not in self.without}

    def opportunity(self, deal: Deal) -> dict[str, Any]:
        closed = {name: (closed, won) for name, closed, won in STAGES}[deal.now.stage]
        return {
            "Id": deal_id(deal),
            "Name": f"Deal {deal.number}",
            "StageName": deal.now.stage,
            "Amount": float(deal.now.amount),
            "CloseDate": deal.now.close_on,
            "ForecastCategory": CATEGORY[deal.now.stage],
            "CurrencyIsoCode": "USD" if deal.number % 2 else "EUR",
            "AccountId": key("001", deal.account),
            "OwnerId": key("005", deal.owner),
            "IsClosed": closed[0],
            "IsWon": closed[1],
            "IsDeleted": deal.deleted_at is not None,
            "CreatedDate": stamp(deal.created_at),
            "LastStageChangeDate": stamp(deal.now.at),
            "SystemModstamp": stamp(deal.modified_at),
            "Region__c": f"Region {deal.number % 4}",
        }

    def states(self, deal: Deal) -> list[dict[str, Any]]:
        return [
            {
                "OpportunityId": deal_id(deal),
                "CreatedDate": stamp(state.at),
                "CreatedById": key("005", deal.owner),
                "StageName": state.stage,
                "Amount": float(state.amount),
                "CloseDate": state.close_on,
                "ForecastCategory": CATEGORY[state.stage],
                "Opportunity.SystemModstamp": stamp(deal.modified_at),
            }
            for state in deal.states
        ]

    def tracked(self, deal: Deal) -> list[dict[str, Any]]:
        """A change of owner, which Salesforce keeps twice, and one of a custom field."""
        changes = [
            ("Owner", "Seller 2", f"Seller {deal.owner}"),
            ("Owner", key("005", 2), key("005", deal.owner)),
            ("Region__c", "Region 9", "Region 1"),
        ]
        shared = {
            "OpportunityId": deal_id(deal),
            "CreatedDate": stamp(deal.created_at.replace(second=0) + timedelta(days=1)),
            "CreatedById": key("005", 0),
            "Opportunity.SystemModstamp": stamp(deal.modified_at),
        }
        return [{**shared, "Field": field, "OldValue": old, "NewValue": new} for field, old, new in changes]

    # -- what it answers ---------------------------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/services/oauth2/token":
            return self.log_in(asked)
        number = asked.headers.get("authorization", "").removeprefix("Bearer token")
        if not number.isdigit() or int(number) <= self._expired:
            return Told([{"errorCode": "INVALID_SESSION_ID", "message": "Session expired or invalid"}], 401)
        self.budget[0] += 1
        if self.budget[0] > self.budget[1]:
            return Told([{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}], 403)
        told = self.of_the_org(asked)
        told.headers["Sforce-Limit-Info"] = "api-usage={}/{}".format(*self.budget)
        return told

    def log_in(self, asked: Asked) -> Told:
        if "client_secret=a+client+secret" not in asked.body.decode():
            return Told({"error": "invalid_client", "error_description": "invalid client credentials"}, 401)
        self.tokens += 1
        return Told({"access_token": f"token{self.tokens}", "instance_url": self.url, "token_type": "Bearer"})

    def of_the_org(self, asked: Asked) -> Told:
        path = asked.path.removeprefix(DATA)
        if path == "sobjects":
            return Told({"sobjects": [{"name": name, "queryable": True} for name in self.tables()]})
        if described := re.fullmatch(r"sobjects/(\w+)/describe", path):
            return self.describe(described[1])
        if path in ("query/", "queryAll/"):
            return self.first_page(asked.words["q"], deleted=path == "queryAll/")
        if path.startswith("query/"):
            return self.next_page(path.removeprefix("query/"))
        if path == "jobs/query":
            self._jobs.append(asked.document["query"])
            return Told({"id": f"job{len(self._jobs) - 1}", "state": "UploadComplete"})
        if job := re.fullmatch(r"jobs/query/job(\d+)(/results)?", path):
            return self.job(int(job[1]), asked) if job[2] else Told({"id": job[0], "state": "JobComplete"})
        if path == "composite/sobjects" and asked.method == "PATCH":
            return self.collection(asked.document["records"])
        return Told([{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}], 404)

    def describe(self, name: str) -> Told:
        rows = self.tables().get(name)
        if rows is None:
            return Told([{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}], 404)
        fields = dict.fromkeys(f for row in rows for f in row if "." not in f and f not in self.without_fields)
        known = [{"name": each, "custom": each.endswith("__c"), "updateable": True} for each in fields]
        if name == "Opportunity" and "scores" not in self.without:
            known += [
                {"name": f"Win_Probability{each}__c", "custom": True, "updateable": True} for each in SCORE_FIELDS
            ]
        return Told({"name": name, "fields": known})

    def found(self, soql: str, *, deleted: bool) -> list[dict[str, Any]]:
        """The records of a query such as the connector asks: SELECT … FROM … [WHERE a AND b] [ORDER BY x] [LIMIT n]."""
        asked = re.fullmatch(
            r"SELECT (.+) FROM (\w+)(?: WHERE (.+?))?(?: ORDER BY (\w+) ASC)?(?: LIMIT (\d+))?", soql.strip()
        )
        assert asked, soql
        names, table, where, order, limit = asked.groups()
        rows = [row for row in self.tables()[table] if deleted or not row.get("IsDeleted")]
        for condition in where.split(" AND ") if where else ():
            field, compare, value = condition.split(" ", 2)
            literal = value.strip("'")
            literal = {"TRUE": True}.get(literal, f"{literal[:-1]}.000+0000" if literal.endswith("Z") else literal)
            met = {"=": lambda a, b: a == b, "<=": lambda a, b: a <= b, ">=": lambda a, b: a >= b}[compare]
            rows = [row for row in rows if met(row[field], literal)]
        rows = sorted(rows, key=lambda row: row[order]) if order else rows
        rows = rows[: int(limit)] if limit else rows
        if names == "COUNT()":
            return rows
        wanted = names.split(", ")
        return [{"attributes": {"type": table}, **{name: row.get(name) for name in wanted}} for row in rows]

    def first_page(self, soql: str, *, deleted: bool) -> Told:
        rows = self.found(soql, deleted=deleted)
        if soql.startswith("SELECT COUNT()"):
            return Told({"totalSize": len(rows), "done": True, "records": []})
        locator = f"01g{len(self._cursors)}"
        self._cursors[locator] = rows
        return self.next_page(f"{locator}-0")

    def next_page(self, place: str) -> Told:
        locator, first = place.split("-")
        rows, start = self._cursors[locator], int(first)
        end = start + self.page
        page = rows[max(0, start - self.repeats) : end]
        told: dict[str, Any] = {"totalSize": len(rows), "done": end >= len(rows), "records": page}
        if end < len(rows):
            told["nextRecordsUrl"] = f"{DATA}query/{locator}-{end}"
        return Told(told)

    def job(self, number: int, asked: Asked) -> Told:
        rows, start = self.found(self._jobs[number], deleted=True), int(asked.words.get("locator", 0))
        end = start + self.page
        page = [{name: value for name, value in row.items() if name != "attributes"} for row in rows]
        text = io.StringIO()
        lines = csv.DictWriter(text, list(page[0]))
        lines.writeheader()
        for row in page[max(0, start - self.repeats) : end]:
            lines.writerow({name: str(v).lower() if isinstance(v, bool) else v for name, v in row.items()})
        more = str(end) if end < len(rows) else "null"
        headers = {"Sforce-Locator": more, "Sforce-NumberOfRecords": str(self.page)}
        return Told(text=text.getvalue(), headers=headers)

    def collection(self, records: list[dict[str, Any]]) -> Told:
        assert len(records) <= 200
        deals = {deal_id(deal): deal for deal in self.company.deals}
        results = []
        for record in records:
            why = self.refuses.get(record["id" if "id" in record else "Id"])
            deal = deals.get(record.get("Id", ""))
            if why or deal is None:
                error = {"statusCode": "CANNOT_UPDATE", "message": why or "entity is deleted", "fields": []}
                results.append({"success": False, "errors": [error]})
                continue
            deal.written = {name: value for name, value in record.items() if name not in ("Id", "attributes")}
            results.append({"id": record["Id"], "success": True, "errors": []})
        return Told(results)

    def scores(self) -> dict[str, float]:
        """What stands in the deals, 0..1, by deal id."""
        return {
            deal_id(deal): float(str(deal.written["Win_Probability__c"])) / 100
            for deal in self.company.deals
            if deal.written.get("Win_Probability__c") is not None
        }
