"""Talking to HubSpot through hubspot-api-client: patience, pages, what changed, associations, records written."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import urllib3
from hubspot import HubSpot

from crm.connectors.base import in_batches
from crm.connectors.repetition import repeated
from crm.connectors.transport import TRY_AGAIN, Patience, clock_of, no_answer
from crm.errors import Detail, OtherSideFailed

PAGE, PAGE_WITH_HISTORY, BATCH = 100, 50, 100
SEARCH_RESULTS = 10_000
UNAUTHORIZED, FORBIDDEN, BAD_REQUEST = 401, 403, 400
Record = dict[str, Any]
"""An object as the client tells it: id, properties, properties_with_history, archived, archived_at."""


class HubSpotRefused(OtherSideFailed):
    """HubSpot understood and would not."""


class HubSpotForbids(OtherSideFailed):
    """The private app lacks a scope, or the portal what it is for."""


class HubSpotClient:
    """One portal: pages of objects, what changed in them, and properties written."""

    def __init__(self, url: str, *, token: str, patience: Patience, search_pause: float) -> None:
        self._url, self._patience, self._search_pause = url, patience, search_pause
        self.requests_sent = 0
        self.server_time: pd.Timestamp | None = None
        hubspot = HubSpot(access_token=token, host=url.rstrip("/"), retry=repeated(patience, noted=self._note))
        # Each of these opens connections of its own when it is asked for: once is enough.
        self._objects, self._search = hubspot.crm.objects.basic_api, hubspot.crm.objects.search_api
        self._batches, self._links = hubspot.crm.objects.batch_api, hubspot.crm.associations.v4.batch_api
        self._owners, self._pipelines = hubspot.crm.owners.owners_api, hubspot.crm.pipelines.pipelines_api
        self._properties = hubspot.crm.properties.core_api

    def _note(self) -> None:
        self.requests_sent += 1

    # -- reading -----------------------------------------------------------------------------------------------------

    def properties(self, kind: str) -> dict[str, Record]:
        """The properties of a kind of object, by name."""
        return {
            each["name"]: each for each in self._ask(kind, self._properties.get_all_with_http_info, kind)["results"]
        }

    def pipelines(self) -> list[Record]:
        """The pipelines of deals with their stages."""
        return list(self._ask("pipelines", self._pipelines.get_all_with_http_info, "deals")["results"])

    def owners(self) -> Iterator[Record]:
        """Everybody who owns or owned records, with their teams."""
        for archived in (False, True):
            yield from self._pages("owners", self._owners.get_page_with_http_info, limit=PAGE, archived=archived)

    def objects(
        self, kind: str, properties: Sequence[str], history: Sequence[str] = (), *, archived: bool = False
    ) -> Iterator[list[Record]]:
        """All objects of a kind, page by page."""
        wanted: dict[str, Any] = {"properties": list(properties), "archived": archived}
        if history:
            wanted["properties_with_history"] = list(history)
        limit = PAGE_WITH_HISTORY if history else PAGE
        pages = self._pages(kind, self._objects.get_page_with_http_info, kind, limit=limit, **wanted)
        yield from in_batches(pages, limit)

    def changed(
        self, kind: str, properties: Sequence[str], history: Sequence[str], start: pd.Timestamp, end: pd.Timestamp
    ) -> Iterator[list[Record]]:
        """The objects of a kind that were written to between two moments."""
        for ids in in_batches(self._changed_ids(kind, start, end), PAGE_WITH_HISTORY if history else BATCH):
            asked = {
                "properties": list(properties),
                "propertiesWithHistory": list(history),
                "inputs": [{"id": each} for each in ids],
            }
            yield list(self._ask(kind, self._batches.read_with_http_info, kind, asked)["results"])

    def _changed_ids(self, kind: str, start: pd.Timestamp, end: pd.Timestamp) -> Iterator[str]:
        """In the order of their changes; a search tells of 10,000, the next one begins where it ended."""
        since, seen = _milliseconds(start), set[str]()
        while True:
            told, last = 0, since
            for found in self._searched(kind, since, _milliseconds(end)):
                told += 1
                last = _milliseconds(pd.Timestamp(found["properties"]["hs_lastmodifieddate"]))
                if found["id"] not in seen:
                    seen.add(found["id"])
                    yield found["id"]
            if told < SEARCH_RESULTS:
                return
            if last == since:
                rule = f"HubSpot's search tells of {SEARCH_RESULTS:,} objects, and more changed at one instant"
                raise OtherSideFailed(
                    "Not everything that changed can be found.",
                    Detail(kind, f"{start:%Y-%m-%dT%H:%M:%SZ}", rule, "Run: dealcast sync hubspot --full"),
                )
            since = last

    def _searched(self, kind: str, since: int, until: int) -> Iterator[Record]:
        between = {
            "propertyName": "hs_lastmodifieddate",
            "operator": "BETWEEN",
            "value": str(since),
            "highValue": str(until),
        }
        asked: Record = {
            "filterGroups": [{"filters": [between]}],
            "sorts": [{"propertyName": "hs_lastmodifieddate", "direction": "ASCENDING"}],
            "properties": ["hs_lastmodifieddate"],
            "limit": PAGE,
        }
        for start in range(0, SEARCH_RESULTS, PAGE):
            time.sleep(self._search_pause)  # searches have a limit of their own, of a few a second
            page = self._ask(
                kind, self._search.do_search_with_http_info, kind, {**asked, "after": str(start)} if start else asked
            )
            yield from page["results"]
            if not (page.get("paging") or {}).get("next"):
                return

    def linked(self, kind: str, to: str, ids: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Pairs of an object and one it is associated with."""
        for some in in_batches(ids, BATCH):
            asked = {"inputs": [{"id": each} for each in some]}
            for found in self._ask(kind, self._links.get_page_with_http_info, kind, to, asked)["results"]:
                yield from ((found["_from"]["id"], str(each["to_object_id"])) for each in found["to"])

    # -- writing -----------------------------------------------------------------------------------------------------

    def update(self, kind: str, records: Sequence[tuple[str, Mapping[str, object]]]) -> dict[str, str]:
        """Write properties of up to 100 objects; returns why not, by id, for those not taken.

        If one makes HubSpot refuse all of them, each half is written alone, down to the ones it refuses.
        """
        asked = {"inputs": [{"id": each, "properties": dict(values)} for each, values in records]}
        try:
            done = self._ask(kind, self._batches.update_with_http_info, kind, asked)
        except HubSpotRefused as refused:
            if len(records) == 1:
                return {records[0][0]: refused.details[0].rule}
            half = len(records) // 2
            return self.update(kind, records[:half]) | self.update(kind, records[half:])
        taken = {each["id"] for each in done["results"]}
        told = {
            each: str(error["message"])
            for error in done.get("errors") or []
            for each in (error.get("context") or {}).get("ids", [])
        }
        return {each: told.get(each, "HubSpot did not say why") for each, _ in records if each not in taken}

    # -- asking ------------------------------------------------------------------------------------------------------

    def _pages(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Record]:
        after: str | None = None
        while True:
            page = self._ask(what, call, *args, **kwargs, **({"after": after} if after else {}))
            yield from page["results"]
            after = ((page.get("paging") or {}).get("next") or {}).get("after")
            if after is None:
                return

    def _ask(self, what: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Record:
        with self._explained(what):
            answer, _, headers = call(*args, **kwargs, _request_timeout=self._patience.timeout_seconds)
        self._note()
        self.server_time = clock_of(headers) or self.server_time
        return dict(answer.to_dict())

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """What the client raises, in our words. Each of its parts has an ApiException of its own."""
        try:
            yield
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise no_answer(self._url, self._patience, f"{type(error).__name__}: {error}") from error
        except Exception as error:
            status = getattr(error, "status", None)
            if status is None:
                raise
            said = str(getattr(error, "body", None) or getattr(error, "reason", ""))[:400]
            if status == UNAUTHORIZED:
                rule = "the access token of a private app that has not been revoked"
                step = "Set DEALCAST_HUBSPOT_ACCESS_TOKEN to its access token, then run this again."
                raise OtherSideFailed("HubSpot does not let us in.", Detail(what, None, rule, step)) from None
            if status in TRY_AGAIN or status >= 500:
                raise no_answer(self._url, self._patience, f"HTTP {status}") from error
            step = "Give the private app the scope it lacks (docs/hubspot.md), or see what HubSpot says."
            detail = Detail(f"HTTP {status}, {what}", None, said, step)
            kind = {BAD_REQUEST: HubSpotRefused, FORBIDDEN: HubSpotForbids}.get(status, OtherSideFailed)
            raise kind("HubSpot refused.", detail) from error


def _milliseconds(moment: pd.Timestamp) -> int:
    return int(moment.timestamp() * 1000)
