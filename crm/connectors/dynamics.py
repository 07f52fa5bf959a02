"""Dynamics 365 Sales: opportunities with the past that the audit log kept, by Dataverse's Web API; scores back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from crm.connectors import dynamics_rows as rows
from crm.connectors.base import Batch, Fetch, Found, OutgoingScore, Row, in_batches
from crm.connectors.dynamics_client import DynamicsClient, Part, Record, Table
from crm.connectors.dynamics_history import GONE, Past
from crm.connectors.dynamics_reading import DEAL, Reading
from crm.connectors.dynamics_scores import PLACES
from crm.connectors.settings import WebSettings, client_library, listed
from crm.connectors.transport import Transport
from crm.errors import Detail, UsageError

WANTED = (DEAL, "account", "connection", "goal", "msdyn_predictivescore", *rows.ACTIVITIES)
LABELS, KINDS = "OData.Community.Display.V1.FormattedValue", "Microsoft.Dynamics.CRM.lookuplogicalname"
LOOKUPS = ("Lookup", "Owner", "Customer")
SCORES_AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class DynamicsSettings(WebSettings):
    """How to reach an environment.

    Attributes
    ----------
    url : of the environment, such as https://acme.crm4.dynamics.com.
    tenant_id, client_id : of the app registered in Microsoft Entra ID; its client secret is kept apart.
    stage_column : the column of opportunities that is the stage while they are open.
    also_read : columns of opportunities to read too, by their logical names, with commas between.
    time_zone : of the company.
    write_to : predictive_score: the rows of msdyn_predictivescore; columns: those of crm_modules/dynamics.
    login_url : of Microsoft Entra ID; national clouds have others.
    """

    name: ClassVar[str] = "dynamics"
    secret: ClassVar[str] = "client_secret"
    tenant_id: str
    client_id: str
    stage_column: str = "stepname"
    also_read: str = ""
    time_zone: str = "UTC"
    write_to: str = "predictive_score"
    login_url: str = "https://login.microsoftonline.com"

    def rules(self) -> Mapping[str, tuple[str, bool]]:
        """By setting, the rule and whether it holds."""
        return {**super().rules(), "write_to": (f"one of {', '.join(PLACES)}", self.write_to in PLACES)}

    def open(self, client_secret: str) -> "DynamicsConnector":
        """A connection; nothing is sent yet.

        Raises
        ------
        UsageError
            If the client library is not installed.
        """
        with client_library(self.name):
            from crm.connectors.dynamics_login import EntraLogin
        transport = Transport(self.url, self.patience)
        login = EntraLogin(
            transport,
            self.url,
            login_url=self.login_url,
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            client_secret=client_secret,
        )
        return DynamicsConnector(DynamicsClient(transport, login), self)


class DynamicsConnector:
    """Reads opportunities and their audit log, what became of them, people, accounts, activities and goals."""

    def __init__(self, client: DynamicsClient, settings: DynamicsSettings) -> None:
        self._client, self._settings = client, settings
        self._place = PLACES[settings.write_to]
        self._custom = listed(settings.also_read)

    @property
    def api_calls(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self._client.requests_sent

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    # -- looking -----------------------------------------------------------------------------------------------------

    def survey(self) -> Found:
        """Ask what is counted, audited and tracked, and look for the place of scores."""
        tables = self._client.tables(WANTED)
        columns = self._client.columns(DEAL)
        words = self._words(columns, self._custom)
        counts = self._client.get("RetrieveTotalRecordCount(EntityNames=['opportunity','account','systemuser'])")
        told = counts["EntityRecordCountCollection"]
        by_name = dict(zip(told["Keys"], told["Values"], strict=True))
        version = self._client.get("RetrieveVersion()")["Version"]
        oldest = f"audits?$select=createdon&$filter=objecttypecode eq '{DEAL}'&$orderby=createdon asc&$top=1"
        first = self._client.get(oldest)["value"]
        lacking = self._place.lacking(tables, columns)
        notes = self._notes(tables, words)
        own = sorted(
            name
            for name, known in columns.items()
            if known["IsCustomAttribute"] and name not in {*words.custom, *PLACES["columns"].fields}
        )
        own = [name for name in own if not name.startswith("msdyn_")]
        if own:
            notes.append(f"columns not read: {', '.join(own)} (also_read=… reads them, docs/dynamics.md)")
        if lacking:
            notes.append(f"scores cannot be written: {lacking}")
        left = self._client.requests_left
        return Found(
            system=f"Dynamics 365, Dataverse {version}",
            tables={"deals": by_name[DEAL], "accounts": by_name["account"], "users": by_name["systemuser"]},
            fields=tuple(words.columns),
            history_since=pd.Timestamp(first[0]["createdon"]) if first else None,
            writes_to=None if lacking else self._place.name,
            notes=tuple(notes),
            api_budget=None if left is None else f"{left:,} calls left of these five minutes",
        )

    def _notes(self, tables: Mapping[str, Table], words: rows.Words) -> list[str]:
        notes = ["no calls: what people submit in Dynamics' forecasts is not read"]
        unaudited = [name for name in words.shown_columns if name not in words.audited]
        if not tables[DEAL].is_audited:
            notes.append("no history: auditing of opportunities is switched off (docs/dynamics.md)")
        elif unaudited:
            notes.append(f"no history of {', '.join(unaudited)}: their auditing is switched off")
        if not tables[DEAL].is_tracked:
            notes.append("deleted deals are seen in the audit log alone: change tracking of opportunities is off")
        return notes

    def _words(self, columns: Mapping[str, Record], names: Sequence[str]) -> rows.Words:
        """How this environment says things; its columns as the Web API names them."""
        unknown = [name for name in (*names, self._settings.stage_column) if name not in columns]
        if unknown:
            rule = "columns of opportunities, by their logical names"
            detail = Detail("also_read, stage_column", ", ".join(unknown), rule, "Correct the setting.")
            raise UsageError("Dynamics has no such columns.", detail)

        def in_web_api(name: str) -> str:
            return f"_{name}_value" if columns[name]["AttributeType"] in LOOKUPS else name

        return rows.Words(
            stage_column=self._settings.stage_column,
            custom={name: in_web_api(name) for name in names},
            currencies={each["transactioncurrencyid"]: each["isocurrencycode"] for each in self._currencies()},
            audited=frozenset(in_web_api(name) for name, known in columns.items() if known["IsAuditEnabled"]["Value"]),
        )

    def _currencies(self) -> list[Record]:
        asked = "transactioncurrencies?$select=transactioncurrencyid,isocurrencycode,exchangerate"
        return [each for page in self._client.rows(asked) for each in page]

    # -- fetching ----------------------------------------------------------------------------------------------------

    def fetch(self, since: str | None) -> Fetch:
        """Everything there is, or what changed since the cursor: the delta links, and an instant for the audit log.

        Its moment and its cursor come with the last page: a change that is made meanwhile is in it, or in the next one.
        """
        cursor = json.loads(since) if since else {}
        currencies = self._currencies()
        columns = "fiscalcalendarstart,_basecurrencyid_value"
        company = self._client.get(f"organizations?$select={columns}")["value"][0]
        codes = {each["transactioncurrencyid"]: each["isocurrencycode"] for each in currencies}
        calendar: dict[str, object] = {"time_zone": self._settings.time_zone}
        if base := codes.get(company["_basecurrencyid_value"]):
            calendar["base_currency"] = base
        if begins := company.get("fiscalcalendarstart"):
            calendar["fiscal_year_start_month"] = int(begins[5:7])
        moment = self._client.server_time or pd.Timestamp.now("UTC").floor("s").as_unit("us")
        fetch = Fetch(moment, since or "", calendar, iter(()))
        fetch.batches = self._batches(fetch, currencies, cursor)
        return fetch

    def _batches(self, fetch: Fetch, currencies: Sequence[Record], cursor: Mapping[str, object]) -> Iterator[Batch]:
        reading = Reading(self._client, self._client.tables(WANTED), fetch, cursor)
        columns = self._client.columns(DEAL)
        # Of a column that was removed since the connection was made, the sync says that it is gone.
        words = self._words(columns, [name for name in self._custom if name in columns])
        past = Past(self._client, words)
        rates = [each for each in currencies if each["exchangerate"]]
        yield Batch("exchange_rates", [_rate(each) for each in rates])
        yield Batch("users", list(self._users()))
        for page in reading.changed("account", rows.ACCOUNT_COLUMNS, annotations=LABELS):
            yield Batch("accounts", [rows.account(each) for each in page])
        seen: set[str] = set()
        for page in reading.changed(DEAL, words.columns):
            past.standing |= {each["opportunityid"]: {k: each.get(k) for k in words.shown_columns} for each in page}
            yield Batch("deals", _noted(list(self._deals(page, words)), seen))
        yield from self._history(past, reading, words, seen)
        yield Batch("stages", list(rows.stages(self._known_stages(), seen)))
        yield from self._others(reading, words)
        fetch.moment = self._client.server_time or fetch.moment
        fetch.cursor = json.dumps({"moment": fetch.moment.isoformat(), "links": reading.links})

    def _deals(self, page: Sequence[Record], words: rows.Words) -> Iterator[Row]:
        """Rows of deals; those that are closed with the moment of their last closing, which is a record of its own."""
        closed = [each["opportunityid"] for each in page if each["statecode"]]
        closings: dict[str, str] = {}
        for some in in_batches(closed, SCORES_AT_ONCE):
            asked = (
                "opportunitycloses?$select=createdon&$orderby=createdon desc&$top=1&$filter=_opportunityid_value eq "
            )
            outcomes = self._client.batch([Part("GET", asked + each) for each in some])
            for deal_id, done in zip(some, outcomes, strict=True):
                for last in done.document.get("value", []):
                    closings[deal_id] = last["createdon"]
        for each in page:
            yield words.deal(each, closed_at=closings.get(each["opportunityid"]))

    def _history(self, past: Past, reading: "Reading", words: rows.Words, seen: set[str]) -> Iterator[Batch]:
        """The audit log: changes, the deals' own contacts, and how deals stood that were deleted."""
        for entries in past.entries(reading.start):
            past.look_up(entries)
            changes: list[Row] = []
            for entry in entries:
                changes[:0] = list(past.changes(entry))  # newest first, as the log is told
            contacts = [row for entry in entries for row in past.contacts(entry)]
            deleted = [
                words.deal({**each.old, "opportunityid": each.deal_id}, closed_at=None, deleted_at=each.at)
                for each in entries
                if each.is_deletion and each.old.get("createdon")
            ]
            seen |= {
                str(row[side]) for row in changes for side in ("old_value", "new_value") if row["field"] == "stage"
            }
            yield Batch("deal_history", changes)
            yield Batch("deal_contacts", contacts)
            yield Batch("deals", _noted(deleted, seen))

    def _known_stages(self) -> dict[str, str]:
        """The stages that Dynamics lists, in their order: those of a process, or the options of a choice."""
        column = self._settings.stage_column
        if column == "stageid":
            columns = "processstageid,stagename,stagecategory"
            asked = f"processstages?$select={columns}&$filter=primaryentitytypecode eq '{DEAL}'"
            known = [each for page in self._client.rows(asked) for each in page]
            known.sort(key=lambda each: each["stagecategory"] if each["stagecategory"] is not None else -1)
            return {each["processstageid"]: each["stagename"] for each in known}
        if self._client.columns(DEAL)[column]["AttributeType"] != "Picklist":
            return {}
        options = self._client.options(DEAL, column)
        return {str(each["Value"]): each["Label"]["UserLocalizedLabel"]["Label"] for each in options}

    def _users(self) -> Iterator[Row]:
        asked = "teams?$select=teamid,name&$filter=teamtype eq 0 and isdefault eq false"
        names = {each["teamid"]: each["name"] for page in self._client.rows(asked) for each in page}
        teams: dict[str, str] = {}
        for page in self._client.rows("teammemberships?$select=systemuserid,teamid"):
            for each in page:
                if name := names.get(each["teamid"]):
                    teams[each["systemuserid"]] = min(name, teams.get(each["systemuserid"], name))
        asked = f"systemusers?$select={','.join(rows.USER_COLUMNS)}"
        for page in self._client.rows(asked, annotations=LABELS):
            yield from (rows.user(each, teams.get(each["systemuserid"])) for each in page)

    def _others(self, reading: "Reading", words: rows.Words) -> Iterator[Batch]:
        for table in rows.ACTIVITIES:
            for page in reading.changed(table, rows.activity_columns(table), annotations=KINDS):
                yield Batch("activities", list(filter(None, (rows.activity(table, each) for each in page))))
        if "connection" in reading.tables:
            columns = "_record1id_value,_record2id_value,_record2roleid_value,createdon"
            # 3 and 2: an opportunity and a contact, by their type codes.
            asked = f"connections?$select={columns}&$filter=record1objecttypecode eq 3 and record2objecttypecode eq 2"
            for page in self._client.rows(asked, annotations=LABELS):
                yield Batch("deal_contacts", [rows.stakeholder(each) for each in page])
        if "goal" in reading.tables:
            columns = "_goalownerid_value,goalstartdate,targetmoney,_transactioncurrencyid_value"
            quarters = " or ".join(f"fiscalperiod eq {each}" for each in rows.QUARTERS)
            for page in self._client.rows(f"goals?$select={columns}&$filter=targetmoney ne null and ({quarters})"):
                yield Batch("quotas", [rows.quota(each, words.currencies) for each in page])

    # -- pushing -----------------------------------------------------------------------------------------------------

    def push(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """Write scores, 100 a batch, each by itself.

        Raises
        ------
        UsageError
            If the environment has no place for them.
        """
        lacking = self._place.lacking(self._client.tables(WANTED), self._client.columns(DEAL))
        if lacking:
            step = "Create the columns (crm_modules/dynamics/README.md), or choose the other place: write_to=…"
            raise UsageError("Dynamics has no place for scores.", Detail(DEAL, None, lacking, step))
        return self._send({score.deal_id: self._place.part(score) for score in scores})

    def withdraw(self, deal_ids: Sequence[str]) -> dict[str, str]:
        """Delete the rows of these deals' scores, or empty the columns; what is not there is as good as deleted."""
        return self._send({deal_id: self._place.removal(deal_id) for deal_id in deal_ids})

    def _send(self, parts: Mapping[str, Part]) -> dict[str, str]:
        failures: dict[str, str] = {}
        for some in in_batches(parts.items(), SCORES_AT_ONCE):
            done = self._client.batch([part for _, part in some])
            for (deal_id, part), each in zip(some, done, strict=True):
                is_gone = part.method == "DELETE" and each.status == GONE
                if each.refusal is not None and not is_gone:
                    failures[deal_id] = each.refusal
        return failures


def _noted(deals: list[Row], seen: set[str]) -> list[Row]:
    """The deals, their stages added to those seen."""
    seen |= {str(each["stage"]) for each in deals}
    return deals


def _rate(currency: Record) -> Row:
    """Dynamics converts by today's rate alone: units of a currency for one of the base."""
    rate = repr(1 / float(currency["exchangerate"]))
    return {"currency": currency["isocurrencycode"], "valid_from": "1970-01-01", "rate_to_base": rate}
