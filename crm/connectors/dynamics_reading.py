"""What changed in Dynamics' tables since the last time: by delta links where changes are tracked, else by date."""

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from crm.connectors.base import OVERLAP, Fetch
from crm.connectors.dynamics_client import DynamicsClient, LinkExpired, Record, Table

DEAL = "opportunity"


class Reading:
    """One fetch: which tables there are, from when on, and the delta links as they move on."""

    def __init__(
        self, client: DynamicsClient, tables: Mapping[str, Table], fetch: Fetch, cursor: Mapping[str, object]
    ) -> None:
        self._client, self.tables, self._fetch = client, tables, fetch
        links, moment = cursor.get("links"), cursor.get("moment")
        self.links: dict[str, str] = dict(links) if isinstance(links, dict) else {}
        since = None if moment is None else pd.Timestamp(str(moment)) - OVERLAP
        self.start = None if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}"

    def changed(self, name: str, columns: Sequence[str], *, annotations: str = "") -> Iterator[list[Record]]:
        """The rows of a table that changed, page by page; deals that were deleted are noted."""
        table = self.tables.get(name)
        if table is None:
            return
        if not table.is_tracked:
            since = f"&$filter=modifiedon ge {self.start}" if self.start else ""
            yield from self._client.rows(f"{table.rows}?$select={','.join(columns)}{since}", annotations=annotations)
            return
        for page in self._tracked(table, columns, annotations):
            if name == DEAL:
                self._fetch.gone |= {each["id"]: None for each in page if each.get("reason")}
            yield [each for each in page if not each.get("reason")]

    def _tracked(self, table: Table, columns: Sequence[str], annotations: str) -> Iterator[list[Record]]:
        try:
            yield from self._client.changed(table.rows, columns, self.links, annotations=annotations)
        except LinkExpired as expired:
            why = f"read anew, changes were not kept for so long: {expired.details[0].rule}"
            self._fetch.notes.append({"what": table.name, "because": why})
            self.links.pop(table.rows)
            yield from self._client.changed(table.rows, columns, self.links, annotations=annotations)
