"""A worker is not larger after many data versions than after the first."""

import gc
import json
import weakref
from pathlib import Path

import pandas as pd
import pytest
from serving_here import NOW, another_model, url_of

from crm.plain import to_plain
from ledger.inbox import Event
from ledger.ledger import open_ledger
from models.bundle_store import set_champion
from serving.follower import Follower
from serving.state import State
from serving.worker import Worker

pytestmark = pytest.mark.slow

TOUCHED = ((0, 1), (2,))
"""Open deals by place: those of one group are all touched before the rest of the data has followed."""


class Served:
    """A workspace as a worker serves it, turn by turn, and which of all the states it ever showed are still alive."""

    def __init__(self, workspace: Path) -> None:
        self.ledger = open_ledger(url_of(workspace))
        self.follower = Follower(workspace, self.ledger)
        self.worker = Worker(workspace, self.ledger, self.follower)
        self.shown: list[weakref.ref[State]] = []
        self.sent = 0

    def take_in(self, deal: pd.Series, at: pd.Timestamp) -> None:
        row = {name: to_plain(deal[name]) for name in ("deal_id", "created_at", "stage")}
        row |= {"amount": 1000 + self.sent, "updated_at": to_plain(at)}
        self.ledger.take_in([Event(f"e{self.sent}", "deals", json.dumps(row), at, NOW, "k")])
        self.sent += 1

    def look(self) -> None:
        self.follower.look()
        assert self.follower.failure is None
        self.note()

    def work(self) -> None:
        self.worker.work()
        self.note()

    def note(self) -> None:
        """Remember what is shown, by a reference that does not keep it."""
        if not any(each() is self.follower.state for each in self.shown):
            self.shown.append(weakref.ref(self.follower.state))

    def scores_of(self, deal_ids: list[str]) -> list[dict]:
        return [self.follower.state.score_of[each] for each in deal_ids]

    def alive(self) -> int:
        return sum(each() is not None for each in self.shown)


def test_of_all_states_that_events_and_promotions_made_only_the_newest_is_kept(workspace, view):
    served = Served(workspace)
    served.look()
    tables, champion = view[0], view[2].model_version
    deals, ids = tables.get("deals").set_index("deal_id", drop=False), view[3]["deal_id"].tolist()
    models = (another_model(workspace, limits=["the other one"]), champion)
    gc.collect()
    gc.disable()  # a state goes when it is replaced, not when the collector comes by
    try:
        for together in TOUCHED:  # one after the other, before the rest has followed
            for place in together:
                served.take_in(deals.loc[ids[place]], tables.as_of + pd.Timedelta(hours=place + 1))
                served.work()
                assert served.follower.state.newer is not None
            touched = [ids[place] for place in together]
            at_once = served.scores_of(touched)
            served.look()
            served.work()
            assert served.alive() == 1
            assert at_once == served.scores_of(touched)
        for model in models:
            set_champion(workspace, model, by="test", reason="back and forth", at=NOW)
            served.look()
            served.work()
            assert served.alive() == 1
    finally:
        gc.enable()
    assert len(served.shown) == 1 + 3 + len(TOUCHED) + len(models)
    said = served.ledger.publications("scores", basis="published")
    assert set().union(*(served.ledger.scores_of(each)["deal_id"] for each in said)) == set(ids[:3])
