"""Several workers, one truth: whichever answers, what it says belongs together, and the newest reaches all of them."""

import threading
import time
from dataclasses import replace

import pandas as pd
import pytest
from serving_here import NOW, RealServer, another_model, fetch, until, url_of

from crm.plain import to_plain
from crm.store import write_version
from crm.versions import import_lock
from ledger.ledger import open_ledger
from models.bundle_store import set_champion

pytestmark = pytest.mark.slow

IN_A_ROW = 30
"""So many answers, each over a connection of its own, come from both of two workers."""
REACHES_SECONDS = 15.0
"""5 on a machine that has nothing else to do; tests run beside each other."""


class Asking(threading.Thread):
    """Asks for all scores, again and again, and keeps when it asked and what it was told."""

    def __init__(self, url: str, key: str, deal_ids: list[str]) -> None:
        super().__init__(daemon=True)
        self.url, self.key, self.body = url, key, {"deal_ids": deal_ids, "explain": False}
        self.told: list[tuple[float, dict]] = []
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            asked = time.monotonic()
            status, answer = fetch(f"{self.url}/v1/score", body=self.body, key=self.key)
            assert status == 200
            self.told.append((asked, answer))

    def until_all(self, model_version: str | None = None, data_version: str | None = None) -> float:
        """Wait until everybody tells of these versions; how many seconds ago the last one did not."""
        began = time.monotonic()

        def all_tell() -> bool:
            last = [each for _, each in self.told[-IN_A_ROW:]]
            return len(last) == IN_A_ROW and all(
                each["model_version"] == (model_version or each["model_version"])
                and each["data_version"] == (data_version or each["data_version"])
                for each in last
            )

        until(all_tell)
        return self.told[-IN_A_ROW][0] - began


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.soak)])
def test_a_new_model_and_new_data_reach_every_worker_and_no_answer_is_half_of_each(
    database, request, workspace, view, tmp_path
):
    tables, _, bundle, scores = view
    url = url_of(workspace) if database == "sqlite" else request.getfixturevalue("postgresql")()
    ledger = open_ledger(url)
    secret, _ = ledger.create_key("test", ["admin"], now=NOW)
    ids = scores["deal_id"].tolist()
    server = RealServer(workspace, tmp_path / "server.log", ledger_url=url, workers=2)
    try:
        server.until_ready()
        until(lambda: len(RealServer.children(server.process.pid)) == 2)
        asking = Asking(server.url, secret, ids)
        asking.start()
        asking.until_all(model_version=bundle.model_version)
        seconds = []
        models = [another_model(workspace, limits=["the second"]), bundle.model_version]
        for model in models:
            set_champion(workspace, model, by="test", reason="back and forth", at=NOW)
            seconds.append(asking.until_all(model_version=model))
        newer = replace(tables, first_import_at=tables.as_of)
        with import_lock(workspace):
            version = write_version(workspace, newer, changed={"deals"}, stages_derived=False, currency_given=True)
        seconds.append(asking.until_all(data_version=version))
        deal = tables.get("deals").set_index("deal_id").loc[ids[0]]
        row = {"deal_id": ids[0], "created_at": to_plain(deal["created_at"]), "stage": deal["stage"], "amount": 77}
        body = {"events": [{"event_id": "one", "table": "deals", "row": row}]}
        assert fetch(f"{server.url}/v1/events", body=body, key=secret)[0] == 202
        until(lambda: all(told["scores"][0]["amount_base"] == 77 for _, told in asking.told[-IN_A_ROW:]))
        asking.over.set()
        asking.join()
        assert max(seconds) < REACHES_SECONDS
    finally:
        server.process.terminate()
        server.process.wait(60)
        ledger.engine.dispose()
    assert server.process.returncode == 0 and "Traceback" not in server.log.read_text()
    said: dict[tuple[str, str], list] = {}
    for _, answer in asking.told:
        if answer["data_version"] > version:
            continue  # after the event some deals were shown before the others followed
        versions = (answer["model_version"], answer["data_version"])
        for score in answer["scores"]:
            assert score["model_version"] == versions[0]
        if all(score["data_version"] == versions[1] for score in answer["scores"]):
            assert said.setdefault(versions, answer["scores"]) == answer["scores"]
    assert len(said) >= 3
    assert pd.Series([len(rows) for rows in said.values()]).eq(len(ids)).all()
