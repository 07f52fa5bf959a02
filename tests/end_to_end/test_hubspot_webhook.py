"""HubSpot's webhooks: only what HubSpot signed comes in, once, and the deal it tells of changes in the service."""

import json

import pandas as pd
import pytest
from hubspot.utils.signature import Signature
from serving_here import until, url_of
from starlette.testclient import TestClient

from crm.history import open_deals
from crm.versions import read_manifest
from serving.access import Access
from serving.api import create_api

pytestmark = pytest.mark.slow

SECRET = "a client secret"
ADDRESS = "https://deals.example.com"
PATH = "/v1/webhooks/hubspot"


def post(client: TestClient, notices: object, *, secret: str = SECRET, address: str = ADDRESS, minutes_ago: float = 0):
    """Notices signed by HubSpot's own library."""
    body = json.dumps(notices)
    sent_at = str(int((pd.Timestamp.now("UTC") - pd.Timedelta(minutes_ago, "min")).timestamp() * 1000))
    signature = Signature.get_signature(secret, body, "v3", address + PATH, "POST", sent_at)
    headers = {"x-hubspot-signature-v3": signature, "x-hubspot-request-timestamp": sent_at}
    return client.post(PATH, content=body, headers={**headers, "content-type": "application/json"})


def test_what_hubspot_signed_comes_in_once_and_nothing_else(workspace):
    api = create_api(workspace, url_of(workspace), Access(public_url=ADDRESS), hubspot_secret=SECRET)
    with TestClient(api) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        state = api.state.follower.state
        deal_id = open_deals(state.history, state.as_of)["deal_id"].iloc[0]
        stages = state.tables.get("stages")
        won = stages.loc[stages["is_won"], "stage"].iloc[0]
        at = pd.Timestamp.now("UTC").floor("ms")
        notice = {"eventId": 1, "subscriptionId": 7, "portalId": 62515, "attemptNumber": 0, "objectId": deal_id}
        notice |= {"subscriptionType": "deal.propertyChange", "occurredAt": int(at.timestamp() * 1000)}
        notice |= {"propertyName": "dealstage", "propertyValue": won}
        refused = [
            post(client, [notice], secret="another"),
            post(client, [notice], minutes_ago=6),
            post(client, [notice], minutes_ago=-6),
            post(client, [notice], address="https://elsewhere.example.com"),
            client.post(PATH, json=[notice]),
        ]
        assert [answer.status_code for answer in refused] == [401] * 5
        assert "public_url" in refused[0].json()["error"]["details"][0]["rule"]
        assert post(client, {"no": "list"}).status_code == 422
        results = post(client, [notice]).json()["results"]
        assert [result["status"] for result in results] == ["accepted", "accepted"]  # the deal, and the change
        again = post(client, [{**notice, "attemptNumber": 1}]).json()["results"]
        assert [result["status"] for result in again] == ["duplicate", "duplicate"]
        assert post(client, [{**notice, "objectId": 404}]).json()["results"] == []  # a new deal: the next sync tells

        def closed() -> bool:
            return deal_id not in set(open_deals(api.state.follower.state.history, at)["deal_id"])

        until(closed)
        assert read_manifest(workspace).folded.through == 2
