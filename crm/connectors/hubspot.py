"""HubSpot: its objects in the shape in which warehouses hold them, read through the shipped mapping; scores back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from crm.connectors.base import OVERLAP, Batch, Fetch, Found, OutgoingScore, Row, in_batches
from crm.connectors.settings import WebSettings, client_library, listed
from crm.errors import Detail, UsageError
from crm.mapping import TableMapping, load_mapping
from crm.mapping_reach import columns_read, with_custom_fields

if TYPE_CHECKING:
    from crm.connectors.hubspot_client import HubSpotClient

MAPPING = "fivetran_hubspot"
DEAL_TABLE, HISTORY_TABLE, COMPANY_TABLE = "deal", "deal_property_history", "company"
GOALS, GOAL_TABLE = "goal_targets", "goal_target"
QUARTER_DAYS = range(85, 100)
"""A goal of a quarter lasts so long; those of weeks, months and years are left out."""

ENGAGEMENTS = {"calls": "call", "emails": "email", "meetings": "meeting", "tasks": "task"}
"""Objects that are activities, and the table that each makes: engagement_call, …"""

SCORES_AT_ONCE = 100
MERGED = "hs_merged_object_ids"

SCORE_PROPERTIES: dict[str, Callable[[OutgoingScore], object]] = {
    "dealcast_win_probability": lambda score: round(score.win_probability, 4),
    "dealcast_win_probability_low": lambda score: score.win_probability_low,
    "dealcast_win_probability_high": lambda score: score.win_probability_high,
    "dealcast_win_probability_change": lambda score: score.score_change,
    "dealcast_win_probability_reasons": lambda score: "\n".join(score.reasons),
    "dealcast_win_probability_as_of": lambda score: int(score.as_of.timestamp() * 1000),
    "dealcast_win_probability_model": lambda score: score.model_version,
}
"""The properties of crm_modules/hubspot and what goes into them; never `hs_deal_stage_probability`."""


@dataclass(frozen=True, kw_only=True)
class HubSpotSettings(WebSettings):
    """How to reach a portal.

    Attributes
    ----------
    time_zone : of the portal: a close date, which HubSpot keeps as an instant, is the local day there.
    base_currency : of the portal.
    also_read : properties of deals to read too, with commas between.
    search_pause_seconds : between two searches, of which HubSpot allows a few a second.
    """

    name: ClassVar[str] = "hubspot"
    secret: ClassVar[str] = "access_token"
    url: str = "https://api.hubapi.com"
    time_zone: str = "UTC"
    base_currency: str = ""
    also_read: str = ""
    search_pause_seconds: float = 0.25

    def rules(self) -> Mapping[str, tuple[str, bool]]:
        """By setting, the rule and whether it holds."""
        return {**super().rules(), "search_pause_seconds": ("0 or more", self.search_pause_seconds >= 0)}

    def open(self, access_token: str) -> "HubSpotConnector":
        """A connection; nothing is sent yet.

        Raises
        ------
        UsageError
            If the client library is not installed.
        """
        with client_library(self.name):
            from crm.connectors.hubspot_client import HubSpotClient
        client = HubSpotClient(
            self.url,
            token=access_token,
            patience=self.patience,
            search_pause=self.search_pause_seconds,
        )
        calendar = {"time_zone": self.time_zone} | ({"base_currency": self.base_currency} if self.base_currency else {})
        custom = listed(self.also_read)
        return HubSpotConnector(client, with_custom_fields(load_mapping(MAPPING), custom), calendar, custom)


class HubSpotConnector:
    """Reads deals with the history of their properties, companies, owners, teams and engagements."""

    def __init__(
        self, client: "HubSpotClient", mapping: TableMapping, calendar: Mapping[str, object], custom: Sequence[str]
    ) -> None:
        self._client, self._mapping, self._calendar, self._custom = client, mapping, calendar, list(custom)
        self._columns = {names[0]: columns for names, columns in columns_read(mapping).items()}
        self._tracked = list(dict.fromkeys(name for each in mapping.tables["deal_history"] for name in each.fields))

    @property
    def api_calls(self) -> int:
        """Requests sent so far, repeated ones included."""
        return self._client.requests_sent

    def close(self) -> None:
        """End the connection."""

    # -- looking -----------------------------------------------------------------------------------------------------

    def survey(self) -> Found:
        """Look at pipelines, owners and the first deals, and look for the properties of scores."""
        properties = self._client.properties("deals")
        pipelines = self._client.pipelines()
        first = next(self._client.objects("deals", ["createdate"]), [])
        lacking = [name for name in SCORE_PROPERTIES if name not in properties]
        own = sorted(
            name
            for name, known in properties.items()
            if not known.get("hubspot_defined") and name not in {*SCORE_PROPERTIES, *self._custom}
        )
        notes = ["the history of every property reaches back to when HubSpot began to keep it"]
        notes += ["no forecast submissions: HubSpot's API does not tell of them in a documented way"]
        if own:
            notes.append(f"custom properties not read: {', '.join(own)} (also_read=… reads them, docs/hubspot.md)")
        if lacking:
            notes.append(f"scores cannot be written: deals have no {', '.join(lacking)} (crm_modules/hubspot)")
        created = [pd.Timestamp(deal["properties"]["createdate"]) for deal in first]
        return Found(
            system="HubSpot",
            tables={
                "deals": len(first),
                "stages": sum(len(each["stages"]) for each in pipelines),
                "users": sum(1 for _ in self._client.owners()),
            },
            fields=tuple(name for name in self._wanted(DEAL_TABLE) if name in properties),
            history_since=min(created) if created else None,
            writes_to=None if lacking else f"deals.{next(iter(SCORE_PROPERTIES))}",
            notes=(*notes, "deals are counted on the first page alone") if len(first) >= 100 else tuple(notes),
        )

    def _wanted(self, table: str) -> list[str]:
        """The properties behind the columns that the mapping reads of a table."""
        named = [name.removeprefix("property_") for name in self._columns[table] if name.startswith("property_")]
        return [*named, *(self._custom if table == DEAL_TABLE else [])]

    # -- fetching ----------------------------------------------------------------------------------------------------

    def fetch(self, since: str | None) -> Fetch:
        """Everything up to this moment of HubSpot's clock, or what was written since the cursor.

        What is written while it is read waits for the next time.
        """
        there = self._client.properties("deals")
        custom = [
            name for name in self._custom if name in there
        ]  # of one that was removed the sync says that it is gone
        pipelines = self._client.pipelines()
        moment = self._client.server_time or pd.Timestamp.now("UTC").floor("s").as_unit("us")
        start = None if since is None else pd.Timestamp(since) - OVERLAP
        gone: dict[str, str | None] = {}
        batches = self._batches(pipelines, start, moment, gone, custom)
        fetch = Fetch(moment, moment.isoformat(), self._calendar, batches, self._mapping, gone=gone)
        fetch.batches = chain(batches, self._goals(fetch.notes))
        return fetch

    def _batches(
        self,
        pipelines: Sequence[Mapping[str, Any]],
        start: pd.Timestamp | None,
        moment: pd.Timestamp,
        gone: dict[str, str | None],
        custom: Sequence[str],
    ) -> Iterator[Batch]:
        yield Batch("deal_pipeline_stage", [_stage(pipe, stage) for pipe in pipelines for stage in pipe["stages"]])
        owners = list(self._client.owners())
        yield Batch("owner", [_owner(each) for each in owners])
        teams = [(owner["id"], team) for owner in owners for team in owner.get("teams") or []]
        yield Batch("owner_team", [_membership(owner, team) for owner, team in teams])
        yield Batch("team", [{"id": each, "name": name} for each, name in {(t["id"], t["name"]) for _, t in teams}])
        for page in self._changed("companies", self._wanted(COMPANY_TABLE), [], start, moment):
            names = self._wanted(COMPANY_TABLE)
            yield Batch(COMPANY_TABLE, [{"id": each["id"], **_properties(each, names)} for each in page])
        for page in self._deals(start, moment):
            yield from self._deal_tables(page, gone, custom)
        for kind, name in ENGAGEMENTS.items():
            table = f"engagement_{name}"
            names = [*self._wanted(table), *(["hs_task_status"] if kind == "tasks" else [])]
            names = list(dict.fromkeys(names))
            for page in self._changed(kind, names, [], start, moment):
                yield Batch(table, [{"engagement_id": each["id"], **_properties(each, names)} for each in page])
                pairs = self._client.linked(kind, "deals", [each["id"] for each in page])
                yield Batch("engagement_deal", [{"engagement_id": each, "deal_id": deal} for each, deal in pairs])

    def _goals(self, notes: list[dict[str, str]]) -> Iterator[Batch]:
        """Quotas: the goals of quarters, of those they were set for; all of them every time, they are few."""
        from crm.connectors.hubspot_client import HubSpotForbids

        owners = {str(each["user_id"]): each["id"] for each in self._client.owners() if each.get("user_id")}
        names = [*self._wanted(GOAL_TABLE), "hs_end_datetime", "hs_assignee_user_id"]
        try:
            for page in self._client.objects(GOALS, names):
                told = [each["properties"] for each in page]
                yield Batch(GOAL_TABLE, [_goal(each, owners, names) for each in told if _is_quarter(each)])
        except HubSpotForbids as forbids:
            notes.append({"what": "goals", "because": f"no quotas: {forbids.details[0].rule}"[:300]})

    def _changed(
        self, kind: str, names: Sequence[str], history: Sequence[str], start: pd.Timestamp | None, moment: pd.Timestamp
    ) -> Iterator[list[Mapping[str, Any]]]:
        names = [*names, "hs_lastmodifieddate"]
        if start is not None:
            pages = self._client.changed(kind, names, history, start, moment)
        else:
            pages = self._client.objects(kind, names, history)
        for page in pages:
            yield [each for each in page if not _is_after(each, moment)]

    def _deals(self, start: pd.Timestamp | None, moment: pd.Timestamp) -> Iterator[list[Mapping[str, Any]]]:
        """Deals that are there, and those in the recycling bin, which no search tells of."""
        names = [*self._wanted(DEAL_TABLE), "dealstage", "pipeline", "hubspot_owner_id", MERGED]
        yield from self._changed("deals", names, self._tracked, start, moment)
        for page in self._client.objects("deals", [*names, "hs_lastmodifieddate"], self._tracked, archived=True):
            yield [each for each in page if start is None or pd.Timestamp(each["archived_at"]) >= start]

    def _deal_tables(
        self, page: Sequence[Mapping[str, Any]], gone: dict[str, str | None], custom: Sequence[str]
    ) -> Iterator[Batch]:
        names = [name for name in self._wanted(DEAL_TABLE) if name not in self._custom]
        yield Batch(DEAL_TABLE, [_deal(each, names, custom) for each in page])
        yield Batch(HISTORY_TABLE, [row for each in page for row in _past(each, self._tracked)])
        pairs = self._client.linked("deals", "companies", [each["id"] for each in page])
        yield Batch("deal_company", [{"deal_id": deal, "company_id": company} for deal, company in pairs])
        for each in page:
            # Whatever was merged into a deal is told by the deal alone, and is itself no longer there.
            for merged in filter(None, (each["properties"].get(MERGED) or "").split(";")):
                if merged != each["id"]:
                    gone[merged] = each["id"]

    # -- pushing -----------------------------------------------------------------------------------------------------

    def push(self, scores: Sequence[OutgoingScore]) -> dict[str, str]:
        """Write scores into the properties of crm_modules/hubspot, 100 deals a call.

        Raises
        ------
        UsageError
            If the portal does not have the properties.
        """
        properties = self._client.properties("deals")
        lacking = [name for name in SCORE_PROPERTIES if name not in properties]
        if lacking:
            rule = "deals have the properties of crm_modules/hubspot"
            detail = Detail("deals", ", ".join(lacking), rule, "Create them (crm_modules/hubspot/README.md).")
            raise UsageError("HubSpot has no place for scores.", detail)
        return self._update({each.deal_id: {name: v(each) for name, v in SCORE_PROPERTIES.items()} for each in scores})

    def withdraw(self, deal_ids: Sequence[str]) -> dict[str, str]:
        """Empty the properties of these deals, which HubSpot does where they are given an empty text."""
        return self._update({deal_id: dict.fromkeys(SCORE_PROPERTIES, "") for deal_id in deal_ids})

    def _update(self, values: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
        failures: dict[str, str] = {}
        for some in in_batches(values.items(), SCORES_AT_ONCE):
            failures |= self._client.update("deals", some)
        return failures


def _is_after(record: Mapping[str, Any], moment: pd.Timestamp) -> bool:
    at = record["properties"].get("hs_lastmodifieddate")
    return bool(at) and pd.Timestamp(at) > moment


def _properties(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, str | None]:
    return {f"property_{name}": record["properties"].get(name) or None for name in names}


def _deal(record: Mapping[str, Any], names: Sequence[str], custom: Sequence[str]) -> Row:
    values = record["properties"]
    return {
        "deal_id": record["id"],
        "deal_pipeline_id": values.get("pipeline"),
        "deal_pipeline_stage_id": values.get("dealstage"),
        "owner_id": values.get("hubspot_owner_id") or None,
        "is_deleted": "true" if record["archived"] else "false",
        "_fivetran_synced": record["archived_at"].isoformat() if record["archived"] else None,
        **_properties(record, names),
        **{name: values.get(name) or None for name in custom},
    }


def _past(record: Mapping[str, Any], tracked: Sequence[str]) -> Iterator[Row]:
    told = record.get("properties_with_history") or {}
    for name in tracked:
        for value in told.get(name) or []:
            at = value.timestamp.isoformat()  # the client leaves these as objects of its own
            yield {"deal_id": record["id"], "name": name, "value": value.value or None, "timestamp": at}


def _stage(pipeline: Mapping[str, Any], stage: Mapping[str, Any]) -> Row:
    known = stage["metadata"]
    is_closed = str(known.get("isClosed", "false")).lower()
    is_won = is_closed == "true" and float(known.get("probability") or 0) == 1
    return {
        "stage_id": stage["id"],
        "pipeline_id": pipeline["id"],
        "label": stage["label"],
        "display_order": str(stage["display_order"]),
        "probability": known.get("probability"),
        "is_closed": is_closed,
        "closed_won": "true" if is_won else "false",
    }


def _owner(owner: Mapping[str, Any]) -> Row:
    names = (owner.get("first_name"), owner.get("last_name"))
    return {
        "owner_id": owner["id"],
        "email": owner.get("email"),
        "last_name": " ".join(filter(None, names)) or None,
        "created_at": owner["created_at"].isoformat(),
    }


def _is_quarter(goal: Mapping[str, Any]) -> bool:
    start, end = goal.get("hs_start_datetime"), goal.get("hs_end_datetime")
    return bool(start and end) and (pd.Timestamp(end) - pd.Timestamp(start)).days in QUARTER_DAYS


def _goal(goal: Mapping[str, Any], owners: Mapping[str, str], names: Sequence[str]) -> Row:
    values = {f"property_{name}": goal.get(name) or None for name in names}
    # Goals begin at midnight UTC, whatever the portal's time zone.
    values["property_hs_start_datetime"] = str(goal["hs_start_datetime"])[:10]
    return {"owner_id": owners.get(goal.get("hs_assignee_user_id") or ""), **values}


def _membership(owner: str, team: Mapping[str, Any]) -> Row:
    return {"owner_id": owner, "team_id": team["id"], "is_team_primary": "true" if team["primary"] else "false"}
