"""What systems and people tell the service: durable before the answer, in the scores within seconds, kept for good."""

import json

import pandas as pd
import pytest
from in_this_process import HOUR, later, row_of
from serving_here import NOW, url_of

from crm.history import open_deals
from crm.plain import to_plain
from crm.store import read_tables
from ledger.inbox import Event
from ledger.ledger import open_ledger
from models.bundle import bundle_for
from models.scorer import score_deals
from serving.follower import Follower
from serving.worker import Worker

pytestmark = pytest.mark.slow


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
