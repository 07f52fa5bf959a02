"""What systems and people tell the service: durable before the answer, in the scores within seconds, kept for good."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from serving_here import NOW, fetch, until, url_of
from starlette.testclient import TestClient

from crm.history import open_deals
from crm.plain import to_plain
from crm.store import read_tables
from crm.versions import read_manifest
from ledger.inbox import Event
from ledger.ledger import open_ledger
from models.bundle import bundle_for
from models.scorer import score_deals
from serving.api import create_api
from serving.follower import Follower
from serving.worker import Worker

pytestmark = pytest.mark.slow

HOUR = pd.Timedelta(hours=1)


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


@pytest.fixture
def service(workspace, request):
    with serving(workspace, url_of(workspace)) as service:
        yield service


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


@pytest.fixture(params=["sqlite", "postgresql"])
def either_service(request, workspace):
    """The service with its ledger on each kind of database."""
    url = url_of(workspace) if request.param == "sqlite" else request.getfixturevalue("postgresql")()
    with serving(workspace, url) as service:
        yield service


def row_of(tables, deal_id: str, **given) -> dict:
    """A deal's required columns, and what changes."""
    deal = tables.get("deals").set_index("deal_id").loc[deal_id]
    return {"deal_id": deal_id, "created_at": to_plain(deal["created_at"]), "stage": deal["stage"], **given}


def later(tables, hours: int) -> str:
    return to_plain(tables.as_of + hours * HOUR)


# -- events ----------------------------------------------------------------------------------------------------------


def test_an_event_is_in_the_score_and_in_the_ledger_within_seconds(either_service, view):
    service, (tables, _, _, scores) = either_service, view
    deal_id = scores["deal_id"].iloc[0]
    before = service.score(deal_id)
    stages = tables.get("stages")
    lost = stages[stages["is_closed"].astype(bool) & ~stages["is_won"].astype(bool)]["stage"].iloc[0]
    other = scores["deal_id"].iloc[1]
    results = service.send(
        ("deals", row_of(tables, deal_id, amount=123456, updated_at=later(tables, 2))),
        ("activities", {"activity_id": "new", "occurred_at": later(tables, 1), "deal_id": deal_id, "type": "meeting"}),
        ("deals", row_of(tables, other) | {"stage": lost, "closed_at": later(tables, 3), "is_closed": True}),
    )
    assert [result["status"] for result in results] == ["accepted"] * 3
    service.settled()
    after = service.score(deal_id)
    assert after["as_of"] == later(tables, 3) and after["amount_base"] == 123456.0
    assert after["win_probability"] != before["win_probability"]
    closed = service.post("/v1/score", {"deal_ids": [other]}, "read").json()["closed"]
    assert closed == [{"deal_id": other, "outcome": "lost", "closed_at": later(tables, 3)}]
    (said,) = service.ledger.score_history(deal_id).to_dict("records")
    assert said["win_probability"] == after["win_probability"] and to_plain(said["as_of"]) == after["as_of"]
    head, published = service.ledger.latest_scores()
    assert published["deal_id"].tolist() == [deal_id] and head.data_version == after["data_version"]
    changed = read_tables(service.workspace)
    assert len(changed.get("activities")) == len(tables.get("activities")) + 1
    metrics = service.client.get("/metrics", headers={"x-api-key": service.key("admin")}).text
    assert "dealcast_events_waiting 0.0" in metrics and 'dealcast_events_total{status="accepted"}' in metrics


def test_scores_after_events_are_those_of_a_service_that_starts_on_the_data_they_made(service, view):
    tables, _, _, scores = view
    deal_id = scores["deal_id"].iloc[0]
    service.send(("deal_history", {"deal_id": deal_id, "changed_at": later(tables, 1), "field": "amount",
                                   "old_value": "1", "new_value": "2"}))  # fmt: skip
    service.settled()
    after = read_tables(service.workspace)
    bundle = bundle_for(service.workspace, after.as_of, after.as_of)
    seen, history = bundle.read_history(after)
    anew = score_deals(bundle, seen, history, open_deals(history, after.as_of)).set_index("deal_id")
    for each in scores["deal_id"]:
        assert service.score(each)["win_probability"] == anew.loc[each, "win_probability"]


def test_a_touched_deal_is_shown_and_published_at_once_as_it_will_be_when_all_have_followed(workspace, view):
    """Deals of one owner and account among them, one that closes, one that is new, one that changes hands."""
    tables, _, _, scores = view
    ledger = open_ledger(url_of(workspace))
    follower = Follower(workspace, ledger)
    follower.look()
    before, worker = follower.state, Worker(workspace, ledger, follower)
    deals = tables.get("deals").set_index("deal_id")
    owners = deals["owner_id"].loc[scores["deal_id"]]
    first, second = owners.index[owners == owners.iloc[0]][:2]
    third = owners.index[owners != owners.iloc[0]][0]
    lost = tables.get("stages").query("is_closed and not is_won")["stage"].iloc[0]
    rows = [
        row_of(tables, first, amount=4321, updated_at=later(tables, 1)),
        row_of(tables, second) | {"stage": lost, "closed_at": later(tables, 2), "is_closed": True},
        row_of(tables, third, owner_id=owners.iloc[0], updated_at=later(tables, 3)),
        {**proposal_fields(deals.loc[first]), "deal_id": "new", "created_at": later(tables, 4)},
    ]
    events = [
        Event(str(n), "deals", json.dumps(row), tables.as_of + (n + 1) * HOUR, NOW, "k") for n, row in enumerate(rows)
    ]
    ledger.take_in(events)
    worker.work()
    shown = follower.state
    assert shown is not before and shown.tables is before.tables and follower.stale
    follower.look()
    whole = follower.state
    assert whole.newer is None and whole.tables.data_version == shown.score_of[first]["data_version"]
    touched = {first, second, third, "new"}
    for deal_id in touched:
        assert shown.score_of.get(deal_id) == whole.score_of.get(deal_id)
        assert shown.closing_of.get(deal_id) == whole.closing_of.get(deal_id)
        assert shown.standing_of(deal_id) == whole.standing_of(deal_id) and shown.deal(deal_id) == whole.deal(deal_id)
        assert shown.owner_of[deal_id] == whole.owner_of[deal_id]
    untouched = set(scores["deal_id"]) - touched
    assert {each: shown.score_of[each] for each in untouched} == {each: before.score_of[each] for each in untouched}
    worker.work()
    published = ledger.scores_of(ledger.publications("scores", basis="published")[-1])
    assert set(published["deal_id"]) == touched - {second}
    assert len(ledger.publications("scores", basis="published")) == 1


def test_events_of_a_new_ledger_are_not_taken_for_those_of_the_old_one(workspace, view, tmp_path):
    tables, deal_id = view[0], view[3]["deal_id"].iloc[0]
    for name, amounts in (("old", (1, 2, 3)), ("new", (7,))):
        ledger = open_ledger(f"sqlite:///{tmp_path}/{name}.db")
        rows = [json.dumps(row_of(tables, deal_id, amount=amount)) for amount in amounts]
        ledger.take_in([Event(f"{name}{n}", "deals", row, None, NOW, "k") for n, row in enumerate(rows)])
        worker = Worker(workspace, ledger, Follower(workspace, ledger))
        assert worker.work() and not worker.work() and worker.waiting.events == 0
        stored = read_tables(workspace).get("deals").set_index("deal_id")
        assert stored.loc[deal_id, "amount"] == amounts[-1]


def proposal_fields(deal: pd.Series) -> dict:
    names = ("stage", "amount", "currency", "close_date", "account_id", "owner_id")
    return {name: to_plain(deal[name]) for name in names}


def test_an_event_is_taken_in_once(service, view):
    tables, deal_id = view[0], view[3]["deal_id"].iloc[0]
    row = row_of(tables, deal_id, amount=5)
    assert [each["status"] for each in service.send(("deals", row))] == ["accepted"]
    assert [each["status"] for each in service.send(("deals", row))] == ["duplicate"]
    (refused,) = service.send(("deals", {**row, "amount": 6}))
    assert refused["status"] == "refused" and refused["details"][0]["where"] == "events[0].event_id"
    assert "other" in refused["details"][0]["rule"] and refused["details"][0]["next_step"]
    twice = {"events": [{"event_id": "t", "table": "deals", "row": {**row, "amount": n}} for n in (7, 7, 8)]}
    statuses = [each["status"] for each in service.post("/v1/events", twice, "events").json()["results"]]
    assert statuses == ["accepted", "duplicate", "refused"]
    service.settled()
    assert service.score(deal_id)["amount_base"] == 7.0


BAD_EVENTS = [
    ("not an event", "events[0]"),
    ({"event_id": "b", "table": "deals", "row": {"deal_id": "x"}}, "events[0].row.created_at"),
    ({"event_id": "", "table": "deals", "row": {"deal_id": "x"}}, "events[0].event_id"),
    ({"event_id": 7, "table": "deals", "row": {"deal_id": "x"}}, "events[0].event_id"),
    ({"event_id": "x" * 201, "table": "deals", "row": {"deal_id": "x"}}, "events[0].event_id"),
    ({"event_id": "a\0b", "table": "deals", "row": {"deal_id": "x"}}, "events[0].event_id"),
    ({"event_id": "b\ud800", "table": "deals", "row": {"deal_id": "x"}}, "events[0].event_id"),
    ({"table": "deals", "row": {"deal_id": "x"}}, "events[0].event_id"),
    ({"event_id": "b", "table": "quotas", "row": {"user_id": "x"}}, "events[0].table"),
    ({"event_id": "b", "table": "users", "row": {"user_id": "x"}}, "events[0].table"),
    ({"event_id": "b", "table": "deal", "row": {"deal_id": "x"}}, "events[0].table"),
    ({"event_id": "b", "table": ["deals"], "row": {"deal_id": "x"}}, "events[0].table"),
    ({"event_id": "b", "row": {"deal_id": "x"}}, "events[0].table"),
    ({"event_id": "b", "table": "deals"}, "events[0].row"),
    ({"event_id": "b", "table": "deals", "row": {}}, "events[0].row"),
    ({"event_id": "b", "table": "deals", "row": [1]}, "events[0].row"),
    ({"event_id": "b", "table": "deals", "row": {"deal_id": "x"}, "at": 1}, "events[0].at"),
    ({"stage": "\ud800"}, "events[0].row.stage"),
    ({"stage": "a\0"}, "events[0].row.stage"),
    ({"a\ud800": 1}, "events[0].row.a?"),
    ({"amount": "a lot"}, "events[0].row.amount"),
    ({"amount": {"value": 1}}, "events[0].row.amount"),
    ({"amount": [1]}, "events[0].row.amount"),
    ({"amount": float("inf")}, "events[0].row.amount"),
    ({"amount": float("nan")}, "events[0].row.amount"),
    ({"amount": 10**400}, "events[0].row.amount"),
    ({"amount": True}, "events[0].row.amount"),
    ({"close_date": "31/12/2026"}, "events[0].row.close_date"),
    ({"close_date": "2026-02-30"}, "events[0].row.close_date"),
    ({"closed_at": "9999-01-01"}, "events[0].row.closed_at"),
    ({"created_at": "2199-01-01"}, "events[0].row.created_at"),
    ({"created_at": None}, "events[0].row.created_at"),
    ({"deal_id": " "}, "events[0].row.deal_id"),
    ({"stage": ""}, "events[0].row.stage"),
    ({"is_won": "perhaps"}, "events[0].row.is_won"),
    ({"_first_seen_at": "2026-01-01"}, "events[0].row._first_seen_at"),
    ({" x": 1}, "events[0].row. x"),
    ({"": 1}, "events[0].row."),
    ({"x" * 200: 1}, "events[0].row." + "x" * 80),
]


def bad_body(bad) -> bytes:
    if isinstance(bad, dict) and not bad.keys() & {"event_id", "table", "row"}:
        row = {"deal_id": "new", "created_at": "2023-02-01", "stage": "x", **bad}
        bad = {"event_id": "b", "table": "deals", "row": row}
    return json.dumps({"events": [bad]}).encode()


def test_a_bad_event_is_refused_by_name_and_the_others_are_accepted(service, view):
    tables, deal_id = view[0], view[3]["deal_id"].iloc[0]
    headers = {"x-api-key": service.key("events"), "content-type": "application/json"}
    for bad, where in BAD_EVENTS:
        answer = service.client.post("/v1/events", content=bad_body(bad), headers=headers)
        assert answer.status_code == 202, (bad, answer.text)
        (result,) = answer.json()["results"]
        assert result["status"] == "refused", bad
        assert where in [detail["where"] for detail in result["details"]], (bad, result)
        assert all(detail["rule"] and detail["next_step"] for detail in result["details"])
    good = {"event_id": "good", "table": "deals", "row": row_of(tables, deal_id, amount=5)}
    wrong = {**good, "event_id": "wrong", "row": {**good["row"], "amount": "x"}}
    answer = service.post("/v1/events", {"events": [wrong, good]}, "events").json()
    assert [each["status"] for each in answer["results"]] == ["refused", "accepted"]
    assert [each.event_id for each in service.ledger.events_after(0)] == ["good"]
    service.settled()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/calls", "/v1/overrides"])
def test_a_body_that_is_none_is_invalid_and_one_that_is_too_much_too_large(service, path):
    what = path.rsplit("/", 1)[1]
    headers = {"x-api-key": service.key("events,calls,admin"), "content-type": "application/json"}
    bodies = [b"", b"{", b"[]", b"null", b"{}", b'{"x": 1}', f'{{"{what}": 5}}'.encode(), b"\xff", b"[" * 100_000]
    bodies += [f'{{"{what}": [1{"0" * 5000}]}}'.encode(), f'{{"{what}": ["\\ud800"], "x": 1}}'.encode()]
    for body in bodies:
        answer = service.client.post(path, content=body, headers=headers)
        assert answer.status_code in (400, 422), (body[:50], answer.text)
        assert answer.json()["error"]["code"] == "invalid"
    one = {"calls": {"period_start": "2023-10-01", "category": "commit", "amount": 1}, "overrides": {"value": 1}}
    many = service.post(path, {what: [one.get(what, 1)] * 1001}, "events,calls,admin")
    assert (many.status_code, many.json()["error"]["code"]) == (413, "too_large")


def test_a_custom_field_must_fit_what_it_holds_and_a_new_one_is_kept(service, view):
    tables, deal_id = view[0], view[3]["deal_id"].iloc[0]
    numbers = service.send(("deals", row_of(tables, deal_id, seats=5)))
    assert numbers[0]["status"] == "accepted"
    service.settled()
    (refused,) = service.send(("deals", row_of(tables, deal_id, seats="many")), prefix="s")
    assert refused["details"][0]["where"] == "events[0].row.seats"
    assert read_tables(service.workspace).get("deals").set_index("deal_id").loc[deal_id, "seats"] == 5.0


def test_events_need_their_scope_and_other_tables_admin(service):
    assert service.post("/v1/events", {"events": []}, "read").status_code == 403
    assert service.post("/v1/calls", {"calls": []}, "events").status_code == 403
    assert service.post("/v1/overrides", {"overrides": []}, "events").status_code == 403
    quota = {"user_id": "u", "period_start": "2023-10-01", "amount": 5}
    assert service.send(("quotas", quota))[0]["status"] == "refused"
    assert service.send(("quotas", quota), scopes="events,admin")[0]["status"] == "accepted"


def test_what_a_user_may_not_see_the_user_s_key_cannot_tell_of(service, view):
    tables, _, _, scores = view
    deals = tables.get("deals").set_index("deal_id")
    bosses = set(tables.get("users")["manager_id"].dropna())
    owners = [owner for owner in deals["owner_id"].dropna().unique() if owner not in bosses]
    mine, theirs = (scores["deal_id"][scores["deal_id"].map(deals["owner_id"]) == each].iloc[0] for each in owners[:2])
    created = {"created_at": later(tables, 0), "stage": deals["stage"].iloc[0]}
    rows = [
        ("deals", row_of(tables, mine, amount=5)),
        ("deals", row_of(tables, theirs, amount=5)),
        ("deals", row_of(tables, mine, owner_id=owners[1])),
        ("deals", {"deal_id": "new", **created, "owner_id": owners[0]}),
        ("deals", {"deal_id": "other", **created, "owner_id": owners[1]}),
        ("activities", {"activity_id": "a", "occurred_at": later(tables, 0), "deal_id": "new"}),
        ("activities", {"activity_id": "b", "occurred_at": later(tables, 0), "deal_id": theirs}),
        ("activities", {"activity_id": "c", "occurred_at": later(tables, 0), "deal_id": "nobody's"}),
        ("leads", {"lead_id": "l", "created_at": later(tables, 0), "owner_id": owners[1]}),
    ]
    results = service.send(*rows, user_id=owners[0])
    good = {0, 3, 5}
    assert [each["status"] == "accepted" for each in results] == [place in good for place in range(len(rows))]
    hidden, missing = results[6]["details"][0], results[7]["details"][0]
    assert {**hidden, "value": ""} == {**missing, "value": "", "where": hidden["where"]}
    lead = {"lead_id": "l", "created_at": later(tables, 0)}
    assert service.send(("leads", {**lead, "owner_id": owners[1]}), prefix="l")[0]["status"] == "accepted"
    service.settled()
    (taken,) = service.send(("leads", {**lead, "owner_id": owners[0]}), user_id=owners[0], prefix="m")
    assert taken["details"][0]["where"] == "events[0].row.lead_id"


def test_an_event_with_which_the_tables_cannot_be_made_does_not_hold_up_the_others(service, view):
    """Periods that overlap are no calendar; a single row cannot tell."""
    tables, deal_id = view[0], view[3]["deal_id"].iloc[0]
    period = {"period_start": "2023-10-01", "period_end": "2023-11-01"}
    gap = {"period_start": "2024-10-01", "period_end": "2024-11-01"}
    rows = [("deals", row_of(tables, deal_id, amount=5)), ("periods", period), ("periods", gap)]
    rows.append(("deals", row_of(tables, deal_id, amount=6)))
    assert {each["status"] for each in service.send(*rows, scopes="events,admin")} == {"accepted"}
    service.settled()
    after = read_tables(service.workspace)
    assert after.get("deals").set_index("deal_id").loc[deal_id, "amount"] == 6.0
    assert len(after.get("periods")) == 1 and len(after.calendar.listed_periods) == 1


# -- calls and overrides ---------------------------------------------------------------------------------------------


def boss_and_rep(tables) -> tuple[str, str]:
    users = tables.get("users")
    rep = users[users["role"] == "rep"].iloc[0]
    return rep["manager_id"], rep["user_id"]


def call_of(tables, **given) -> dict:
    period = tables.calendar.period_of(tables.as_of)
    said = {"period_start": str(period.start), "submitted_at": later(tables, 1), "category": "commit", "amount": 1000}
    return {**said, **given}


def test_a_call_is_kept_and_stands_in_the_forecast_of_who_called(either_service, view):
    service, tables = either_service, view[0]
    _, rep = boss_and_rep(tables)
    answer = service.post("/v1/calls", {"calls": [call_of(tables, note="sure of it")]}, "calls", rep)
    assert answer.status_code == 202
    (kept,) = answer.json()["calls"]
    assert kept["user_id"] == rep and kept["model_seen"] is False and kept["amount"] == 1000.0
    service.settled()
    body = {"node_type": "rep", "node_id": rep}
    (node,) = service.post("/v1/forecast", body, "read").json()["nodes"]
    assert (node["call_commit"], node["call_user_id"], node["call_submitted_at"]) == (1000.0, rep, later(tables, 1))
    said = read_tables(service.workspace).get("forecast_calls")
    assert said[said["submitted_at"] == tables.as_of + HOUR]["note"].tolist() == ["sure of it"]
    assert service.ledger.calls()["amount"].tolist() == [1000.0]


def test_a_call_says_whether_its_caller_had_read_the_model_s_number(service, view):
    tables = view[0]
    boss, rep = boss_and_rep(tables)

    def seen(user: str, hour: int) -> bool:
        body = {"calls": [call_of(tables, submitted_at=later(tables, hour))]}
        return service.post("/v1/calls", body, "read,calls", user).json()["calls"][0]["model_seen"]

    assert seen(rep, 1) is False
    service.post("/v1/forecast", {}, "read,calls", boss)
    assert (seen(rep, 2), seen(boss, 3)) == (False, True)
    service.post("/v1/forecast", {"period_start": str(view[0].calendar.next_period(
        tables.calendar.period_of(tables.as_of)).start)}, "read,calls", rep)  # fmt: skip
    assert seen(rep, 4) is False
    service.post("/v1/forecast", {}, "read,calls", rep)
    assert seen(rep, 5) is True
    service.settled()


def test_with_admin_one_calls_for_others_and_without_for_oneself_alone(service, view):
    tables = view[0]
    boss, rep = boss_and_rep(tables)
    other = call_of(tables, user_id=boss)
    assert service.post("/v1/calls", {"calls": [other]}, "calls", rep).status_code == 422
    assert service.post("/v1/calls", {"calls": [call_of(tables, user_id=rep)]}, "calls", rep).status_code == 202
    nobody = service.post("/v1/calls", {"calls": [call_of(tables)]}, "calls")
    assert nobody.json()["error"]["details"][0]["where"] == "calls[0].user_id"
    assert service.post("/v1/calls", {"calls": [other]}, "admin").json()["calls"][0]["user_id"] == boss
    for user in (None, rep):
        missing = service.post("/v1/calls", {"calls": [call_of(tables, user_id="nobody")]}, "admin", user)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert service.post("/v1/calls", {"calls": [other]}, "admin", rep).status_code == 404


BAD_CALLS = [
    ({"amount": "1000"}, "amount"),
    ({"amount": None}, "amount"),
    ({"amount": float("nan")}, "amount"),
    ({"amount": float("inf")}, "amount"),
    ({"amount": 10**400}, "amount"),
    ({"amount": True}, "amount"),
    ({"category": "hope"}, "category"),
    ({"category": None}, "category"),
    ({"period_start": "2023-10-02"}, "period_start"),
    ({"period_start": "soon"}, "period_start"),
    ({"period_start": "0001-01-01"}, "period_start"),
    ({"period_start": "9999-12-31"}, "period_start"),
    ({"submitted_at": "soon"}, "submitted_at"),
    ({"submitted_at": "2199-01-01"}, "submitted_at"),
    ({"submitted_at": "2020-01-01"}, "submitted_at"),
    ({"currency": "ZZZ"}, "currency"),
    ({"note": "x" * 2001}, "note"),
    ({"note": "\0"}, "note"),
    ({"note": "\ud800"}, "note"),
    ({"user_id": "\ud800"}, "user_id"),
    ({"hope": 1}, "hope"),
]


def test_a_bad_call_is_refused_by_name_and_nothing_is_kept(service, view):
    tables = view[0]
    _, rep = boss_and_rep(tables)
    headers = {"x-api-key": service.key("calls", rep), "content-type": "application/json"}
    for bad, where in BAD_CALLS:
        calls = [call_of(tables), call_of(tables, **{"category": "best_case", **bad})]
        body = json.dumps({"calls": calls})
        answer = service.client.post("/v1/calls", content=body, headers=headers)
        assert answer.status_code == 422, (bad, answer.text)
        places = [detail["where"] for detail in answer.json()["error"]["details"]]
        assert f"calls[1].{where}" in places, (bad, places)
    twice = service.post("/v1/calls", {"calls": [call_of(tables), call_of(tables, amount=2)]}, "calls", rep)
    assert twice.json()["error"]["details"][0]["where"] == "calls[1].category"
    assert service.post("/v1/calls", {"calls": []}, "calls", rep).status_code == 422
    assert service.ledger.calls().empty and service.ledger.events_after(0) == []


def test_an_override_of_a_node_or_deal_is_kept_with_whether_the_number_was_read(either_service, view):
    service, (tables, _, _, scores) = either_service, view
    deals = tables.get("deals").set_index("deal_id")
    deal_id = scores["deal_id"].iloc[0]
    owner = deals.loc[deal_id, "owner_id"]
    node = {"node_type": "rep", "node_id": owner, "value": 500, "note": "I know the customer"}
    both = {"overrides": [node, {"deal_id": deal_id, "value": 7.5}]}
    first = service.post("/v1/overrides", both, "read,calls", owner)
    assert first.status_code == 202
    assert [each["model_seen"] for each in first.json()["overrides"]] == [False, False]
    service.client.get(f"/v1/deals/{deal_id}", headers={"x-api-key": service.key("read,calls", owner)})
    second = service.post("/v1/overrides", both, "read,calls", owner).json()["overrides"]
    assert [each["model_seen"] for each in second] == [False, True]
    assert [each["override_id"] for each in second] == [3, 4] and second[0]["user_id"] == owner
    period = tables.calendar.period_of(tables.as_of)
    said = service.ledger.overrides(period_start=pd.Timestamp(period.start))
    assert said["value"].tolist() == [500.0, 7.5] * 2 and said["note"].iloc[0] == "I know the customer"


def test_an_override_of_what_one_may_not_see_is_not_found_and_a_bad_one_refused_by_name(service, view):
    tables, history, _, scores = view
    deals = tables.get("deals").set_index("deal_id")
    bosses = set(tables.get("users")["manager_id"].dropna())
    rep = next(each for each in deals["owner_id"].dropna().unique() if each not in bosses)
    theirs = next(each for each in scores["deal_id"] if deals.loc[each, "owner_id"] != rep)
    for unseen in (
        {"deal_id": theirs},
        {"deal_id": "nobody's"},
        {"node_type": "company", "node_id": "company"},
        {"node_type": "rep", "node_id": deals.loc[theirs, "owner_id"]},
        {"node_type": "rep", "node_id": "nobody"},
    ):
        answer = service.post("/v1/overrides", {"overrides": [{**unseen, "value": 1}]}, "calls", rep)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), unseen
    company = {"node_type": "company", "node_id": "company", "value": 1}
    assert service.post("/v1/overrides", {"overrides": [company]}, "calls").status_code == 202
    won = history.wins.loc[history.wins["undone_at"].isna(), "deal_id"].iloc[0]
    bad = [
        ({"deal_id": None}, "node_type"),
        ({"node_type": "rep"}, "node_id"),
        ({"node_id": "x"}, "node_type"),
        ({"deal_id": theirs, "node_type": "rep", "node_id": "x"}, "deal_id"),
        ({"deal_id": won}, "deal_id"),
        ({"node_type": "planet", "node_id": "x"}, "node_type"),
        ({**company, "value": None}, "value"),
        ({**company, "value": "1"}, "value"),
        ({**company, "value": float("nan")}, "value"),
        ({**company, "period_start": "2023-10-02"}, "period_start"),
        ({**company, "submitted_at": "soon"}, "submitted_at"),
        ({**company, "submitted_at": "2199-01-01"}, "submitted_at"),
        ({**company, "note": 5}, "note"),
        ({"deal_id": "\ud800"}, "deal_id"),
        ({"deal_id": "\0"}, "deal_id"),
    ]
    headers = {"x-api-key": service.key("calls"), "content-type": "application/json"}
    for each, where in bad:
        body = json.dumps({"overrides": [{"value": 1, **each}]})
        answer = service.client.post("/v1/overrides", content=body, headers=headers)
        assert answer.status_code == 422, (each, answer.text)
        assert f"overrides[0].{where}" in [d["where"] for d in answer.json()["error"]["details"]], (each, answer.text)


# -- killed at any moment --------------------------------------------------------------------------------------------

FOLDING = """
import sys
from pathlib import Path
from ledger.inbox import Event
from ledger.ledger import open_ledger
from serving.follower import Follower
from serving.worker import Worker

workspace, ledger = Path(sys.argv[1]), open_ledger(sys.argv[2])
follower = Follower(workspace, ledger)
worker = Worker(workspace, ledger, follower)
while True:
    worker.work()
    follower.look()
"""


def files_of(workspace: Path, pattern: str) -> int:
    return len(list((workspace / "data").glob(pattern)))


def test_a_worker_killed_at_any_moment_loses_nothing_and_doubles_nothing(workspace, view, tmp_path):
    tables, _, _, scores = view
    ledger = open_ledger(url_of(workspace))
    current = workspace / "data" / "CURRENT"
    log = "deals/_delta_log/*.json"
    happened = [  # what a round waits for, told from what there was before it
        lambda before: files_of(workspace, "events/*.jsonl") > before["events"],
        lambda before: files_of(workspace, log) > before["log"],
        lambda before: files_of(workspace, "versions/*.json") > before["versions"],
        lambda before: current.read_text() != before["current"],
        lambda before: len(ledger.publications("scores", basis="published")) > before["said"],
    ]
    sent: list[Event] = []
    for place, has_happened in enumerate(happened):
        deal_id = scores["deal_id"].iloc[place]
        row = row_of(tables, deal_id, amount=1000 + place, updated_at=later(tables, place + 1))
        call = {"activity_id": f"new{place}", "occurred_at": later(tables, place + 1), "deal_id": deal_id}
        for table, each in (("deals", row), ("activities", call)):
            moment = tables.as_of + (place + 1) * HOUR
            sent.append(Event(f"{table}{place}", table, json.dumps(each), moment, moment, "key"))
        assert ledger.take_in(sent) == ["duplicate"] * (2 * place) + ["accepted"] * 2
        before = {"events": files_of(workspace, "events/*.jsonl"), "log": files_of(workspace, log)}
        before |= {"versions": files_of(workspace, "versions/*.json"), "current": current.read_text()}
        before |= {"said": len(ledger.publications("scores", basis="published"))}
        command = [sys.executable, "-c", FOLDING, str(workspace), url_of(workspace)]
        with (tmp_path / "folding.log").open("a") as written:
            process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, stderr=written)
        try:
            until(lambda before=before, done=has_happened, on=process: done(before) or on.poll() is not None)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL, (tmp_path / "folding.log").read_text()
    with serving(workspace, url_of(workspace)) as service:
        service.settled()
        after = read_tables(workspace)
        amounts = after.get("deals").set_index("deal_id")["amount"].loc[scores["deal_id"].iloc[: len(happened)]]
        assert amounts.tolist() == [1000.0 + place for place in range(len(happened))]
        assert len(after.get("activities")) == len(tables.get("activities")) + len(happened)
        noted = after.get("deal_history")
        noted = noted[(noted["changed_by"] == "sync") & (noted["field"] == "amount")]
        assert sorted(noted["new_value"]) == [f"{1000 + place}" for place in range(len(happened))]
        assert read_manifest(workspace).folded.through == len(sent)
        for place, deal_id in enumerate(scores["deal_id"].iloc[: len(happened)]):
            said = service.ledger.score_history(deal_id)
            assert (said["as_of"] >= tables.as_of + (place + 1) * HOUR).any()


def test_what_the_real_server_answered_is_not_lost_when_it_is_killed_at_once(server, workspace, view):
    url, process, log = server
    tables, deal_id = view[0], view[3]["deal_id"].iloc[0]
    secret, _ = open_ledger(url_of(workspace)).create_key("sender", ["events", "read"], now=NOW)
    until(lambda: process.poll() is not None or (fetch(f"{url}/readyz") or (0,))[0] == 200, seconds=120)
    assert process.poll() is None, log.read_text()
    one = {"event_id": "one", "table": "deals", "row": row_of(tables, deal_id, amount=77)}
    assert fetch(f"{url}/v1/events", body={"events": [one]}, key=secret)[0] == 202
    until(
        lambda: fetch(f"{url}/v1/score", body={"deal_ids": [deal_id]}, key=secret)[1]["scores"][0]["amount_base"] == 77
    )
    two = {"event_id": "two", "table": "deals", "row": row_of(tables, deal_id, amount=88)}
    status, answer = fetch(f"{url}/v1/events", body={"events": [two, one]}, key=secret)
    process.kill()
    process.wait()
    assert status == 202 and [each["status"] for each in answer["results"]] == ["accepted", "duplicate"]
    until(lambda: fetch(f"{url}/livez") is None)
    with serving(workspace, url_of(workspace)) as service:
        service.settled()
        assert service.score(deal_id)["amount_base"] == 88.0
        assert service.send(("deals", two["row"]), prefix="tw")[0]["status"] == "accepted"
        assert len(service.ledger.events_after(0)) == 3


def test_of_two_services_of_one_workspace_one_folds_at_a_time(workspace, view):
    tables, _, _, scores = view
    url = url_of(workspace)
    with serving(workspace, url) as one, serving(workspace, url) as other:
        for place, deal_id in enumerate(scores["deal_id"].iloc[:6]):
            row = row_of(tables, deal_id, amount=100 + place, updated_at=later(tables, 1))
            (one, other)[place % 2].send(("deals", row), prefix=f"e{place}-")
        one.settled()
        other.settled()
        until(lambda: one.state().tables.data_version == other.state().tables.data_version)
        for place, deal_id in enumerate(scores["deal_id"].iloc[:6]):
            assert one.score(deal_id) == other.score(deal_id)
            assert one.score(deal_id)["amount_base"] == 100.0 + place
            assert len(one.ledger.score_history(deal_id)) == 1
