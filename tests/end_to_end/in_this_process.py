"""The service of a workspace in the tests' own process, to be asked and to be told what happened."""

from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from serving_here import NOW, until, url_of
from starlette.testclient import TestClient

from crm.plain import to_plain
from crm.versions import read_manifest
from ledger.ledger import open_ledger
from serving.api import create_api

HOUR = pd.Timedelta(hours=1)


@contextmanager
def served(workspace: Path):
    """A client of the workspace's service in this process, once it is ready."""
    secret, _ = open_ledger(url_of(workspace)).create_key("test", ["read"], now=NOW)
    with TestClient(create_api(workspace, url_of(workspace)), headers={"x-api-key": secret}) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


class Service:
    """The service of a workspace in this process, and the keys to talk to it."""

    def __init__(self, workspace: Path, url: str) -> None:
        self.workspace, self.ledger = workspace, open_ledger(url)
        self.api = create_api(workspace, url)
        self.client = TestClient(self.api)
        self.keys: dict[tuple[str, str | None], str] = {}

    def key(self, scopes: str, user_id: str | None = None) -> str:
        if (scopes, user_id) not in self.keys:
            name = f"{scopes} {user_id} {id(self)}"
            secret, _ = self.ledger.create_key(name, scopes.split(","), user_id=user_id, now=NOW)
            self.keys[scopes, user_id] = secret
        return self.keys[scopes, user_id]

    def post(self, path: str, body: object, scopes: str, user_id: str | None = None):
        return self.client.post(path, json=body, headers={"x-api-key": self.key(scopes, user_id)})

    def send(self, *rows: tuple[str, dict], scopes: str = "events", user_id: str | None = None, prefix: str = "e"):
        events = [{"event_id": f"{prefix}{n}", "table": t, "row": row} for n, (t, row) in enumerate(rows)]
        answer = self.post("/v1/events", {"events": events}, scopes, user_id)
        assert answer.status_code == 202, answer.text
        return answer.json()["results"]

    def state(self):
        return self.api.state.follower.state

    def settled(self) -> None:
        """Wait until everything accepted is in the data, served and published."""
        worker = self.api.state.worker

        def is_settled() -> bool:
            manifest = read_manifest(self.workspace)
            waiting = self.ledger.events_waiting(manifest.folded.through).events
            followed = self.state().tables.data_version == manifest.data_version
            return not waiting and followed and worker.has_published(self.state())

        until(is_settled)

    def score(self, deal_id: str) -> dict | None:
        answer = self.post("/v1/score", {"deal_ids": [deal_id]}, "read").json()
        return answer["scores"][0] if answer["scores"] else None


class serving:
    def __init__(self, workspace: Path, url: str) -> None:
        self.service = Service(workspace, url)

    def __enter__(self) -> Service:
        self.service.client.__enter__()
        until(lambda: self.service.client.get("/readyz").status_code == 200)
        return self.service

    def __exit__(self, *gone) -> None:
        self.service.client.__exit__(*gone)
        self.service.ledger.engine.dispose()


def row_of(tables, deal_id: str, **given) -> dict:
    """A deal's required columns, and what changes."""
    deal = tables.get("deals").set_index("deal_id").loc[deal_id]
    return {"deal_id": deal_id, "created_at": to_plain(deal["created_at"]), "stage": deal["stage"], **given}


def later(tables, hours: int) -> str:
    return to_plain(tables.as_of + hours * HOUR)
