"""What HubSpot's notices tell of deals, in rows of ours."""

import pandas as pd
import pytest
from importing_company import Company

from crm.connectors.hubspot_webhook import events_of
from crm.store import read_tables
from crm.tables import CrmTables

AT = 1_772_445_600_000  # 2026-03-02 10:00 UTC
TOLD = "2026-03-02T10:00:00+00:00"


@pytest.fixture
def tables(tmp_path) -> CrmTables:
    """Two deals as of 1 March, in New York."""
    company = Company(tmp_path)
    company.write(
        deals="deal_id,created_at,stage,amount,close_date\n1,2026-01-01,talk,100,2026-04-01\n2,2026-01-02,talk,,\n",
        stages="stage,sort_order,is_closed,is_won\ntalk,1,false,false\nsigned,2,true,true\n",
    ).calendar(as_of="2026-03-01", time_zone="America/New_York")
    company.run()
    return read_tables(company.workspace)


def changed(name: str, value: str, *, deal: int = 1, seconds: int = 0) -> dict:
    notice = {"subscriptionType": "deal.propertyChange", "objectId": deal, "occurredAt": AT + seconds * 1000}
    return {**notice, "eventId": 5, "subscriptionId": 6, "portalId": 7, "propertyName": name, "propertyValue": value}


def test_a_change_tells_the_deal_and_its_history_with_the_value_before(tables):
    deal, change = events_of([changed("dealstage", "signed")], tables)
    head = {"deal_id": "1", "created_at": "2026-01-01T05:00:00Z", "stage": "signed"}
    assert (deal["table"], deal["row"]) == ("deals", {**head, "closed_at": TOLD})
    told = {"deal_id": "1", "changed_at": TOLD, "field": "stage", "old_value": "talk", "new_value": "signed"}
    assert (change["table"], change["row"]) == ("deal_history", told)
    assert deal["event_id"] != change["event_id"]


def test_of_several_changes_each_knows_the_one_before_however_they_were_sent(tables):
    notices = [changed("amount", "300", seconds=2), changed("amount", "200", seconds=1)]
    rows = [event["row"] for event in events_of(notices, tables) if event["table"] == "deal_history"]
    assert [(row["old_value"], row["new_value"]) for row in rows] == [(100.0, "200"), ("200", "300")]


def test_a_close_date_is_the_local_day(tables):
    midnight = str(int(pd.Timestamp("2026-05-01 02:00", tz="UTC").timestamp() * 1000))
    for written in (midnight, "2026-05-01T02:00:00Z"):
        assert events_of([changed("closedate", written)], tables)[0]["row"]["close_date"] == "2026-04-30"


def test_deletions_and_merges_are_followed_and_what_is_not_known_waits_for_the_sync(tables):
    shared = {"occurredAt": AT, "eventId": 1}
    merge = {"subscriptionType": "deal.merge", "objectId": 1, "primaryObjectId": 1, "mergedObjectIds": [2, 99]}
    (merged,) = events_of([{**merge, **shared}], tables)
    assert (merged["row"]["deal_id"], merged["row"]["merged_into"], merged["row"]["deleted_at"]) == ("2", "1", TOLD)
    (deleted,) = events_of([{"subscriptionType": "deal.deletion", "objectId": 2, **shared}], tables)
    assert (deleted["row"]["deal_id"], deleted["row"]["deleted_at"]) == ("2", TOLD)
    others = [changed("dealstage", "signed", deal=99), changed("region", "North")]
    others += [{"subscriptionType": "contact.creation", "objectId": 1, **shared}]
    assert events_of(others, tables) == []
