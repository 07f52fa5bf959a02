"""Requests that nobody would think of, made by schemathesis from the service's own description of itself.

Half of them are as the description allows (with ids and names that exist among them, or hardly one would get anywhere),
half break it somewhere. `DEALCAST_CASES` makes them more: `make soak` sends 10,000. schemathesis' coverage phase, which
tries each rule by itself, is left out: `test_bad_inputs.py` does that by hand.
"""

import copy
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving_here import NOW, RealServer, url_of

from crm.contract import TABLES
from crm.plain import to_plain
from ledger.ledger import open_ledger
from serving.api import create_api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * 3600)]

DESCRIBED = create_api(Path("workspace"), "sqlite://").openapi()
ROUTES = [(method, path) for path, operations in DESCRIBED["paths"].items() for method in operations]
TAKES_SOMETHING = [(how, path) for how, path in ROUTES if "requestBody" in DESCRIBED["paths"][path][how] or "{" in path]
CASES = int(os.environ.get("DEALCAST_CASES", "500"))
EACH = -(-CASES // (2 * len(TAKES_SOMETHING)))
"""Cases of a route that are as described, and as many that are not; what takes nothing is asked once."""
HOLDS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
log = logging.getLogger("any request")
REQUESTS = ("ForecastRequest", "SupposedDeal", "WhatIfRequest", "Call", "Override", "PanelLinkRequest")
ROWS = {"deal": "deals", "history": "deal_history", "activities": "activities", "contacts": "deal_contacts"}


@pytest.fixture(scope="module")
def service(trained, tmp_path_factory) -> Iterator[tuple[str, requests.Session]]:
    """The real server of a company, and a session that may do everything."""
    folder = tmp_path_factory.mktemp("any request")
    workspace = Path(shutil.copytree(trained, folder / "workspace"))
    secret, _ = open_ledger(url_of(workspace)).create_key("everything", ["admin"], now=NOW)
    server = RealServer(workspace, folder / "server.log")
    session = requests.Session()
    session.headers["x-api-key"] = secret
    try:
        server.until_ready()
        yield server.url, session
    finally:
        server.process.kill()
        server.process.wait()


@pytest.fixture(scope="module")
def said(view) -> dict[str, list]:
    """Values that mean something to the service, by the name of the field or parameter that takes them."""
    tables, _, _, scores = view
    deals, users = tables.get("deals"), tables.get("users")
    moments = [to_plain(tables.as_of - each) for each in (tables.as_of - deals["created_at"]).head(3)]
    period = tables.calendar.period_of(tables.as_of)
    values = {
        "deal_id": [*scores["deal_id"].head(3), deals["deal_id"].iloc[0], "a new one"],
        "user_id": users["user_id"].head(2).tolist(),
        "owner_id": users["user_id"].head(2).tolist(),
        "node_id": ["company", *users["team"].dropna().head(1), *users["user_id"].head(1)],
        "account_id": deals["account_id"].head(2).tolist(),
        "stage": tables.get("stages")["stage"].tolist(),
        "table": [*ROWS.values(), "leads", "users"],
        "field": ["stage", "amount", "close_date", "owner_id"],
        "period_start": [to_plain(period.start)],
        **dict.fromkeys(("as_of", "since", "changed_at", "created_at", "occurred_at", "added_at"), moments),
    }
    for name, these in values.items():
        schemathesis.openapi.format(f"known_{name}", st.sampled_from(these) | st.text(max_size=5))
    return values


def with_values(described: dict, said: Mapping[str, list]) -> dict:
    """The description, with texts that mean something beside any others, and with the columns of free rows.

    They come as formats: of a list of values beside any text the generator makes any text.
    """
    description = copy.deepcopy(described)

    def known(name: str, schema: dict) -> dict:
        return {"type": "string", "format": f"known_{name}"} if name in said else schema

    def row_of(table: str) -> dict:
        properties = {name: known(name, {}) for name in TABLES[table].columns}
        return {"type": "object", "properties": properties, "required": sorted(TABLES[table].required)}

    schemas = description["components"]["schemas"]
    for asked in REQUESTS:
        its = schemas[asked]["properties"]
        its |= {name: known(name, schema) for name, schema in its.items()}
    schemas["ScoreRequest"]["properties"]["deal_ids"]["items"] = known("deal_id", {})
    for part, table in ROWS.items():
        its = schemas["Proposal"]["properties"]
        its[part] = row_of(table) if part == "deal" else {"type": "array", "items": row_of(table), "maxItems": 3}
    schemas["EventsRequest"]["properties"]["events"]["items"] = {
        "type": "object",
        "properties": {
            "event_id": {"type": "string"},
            "table": known("table", {}),
            "row": {"anyOf": [row_of(table) for table in ROWS.values()]},
        },
        "required": ["event_id", "table", "row"],
    }
    return description


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=map(" ".join, ROUTES))
def test_no_request_finds_a_bug_and_every_answer_is_as_described(service, said, method, path, mode):
    url, session = service
    if mode is GenerationMode.NEGATIVE and (method, path) not in TAKES_SOMETHING:
        return  # there is nothing to break
    description = with_values(DESCRIBED, said) if mode is GenerationMode.POSITIVE else DESCRIBED
    route = schemathesis.openapi.from_dict(description)[path][method]
    cases = route.as_strategy(generation_mode=mode)
    if mode is GenerationMode.POSITIVE and "{deal_id}" in path:
        cases |= st.sampled_from(said["deal_id"]).flatmap(
            lambda name: route.as_strategy(path_parameters={"deal_id": name})
        )
    statuses: Counter[int] = Counter()

    @settings(
        max_examples=EACH,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def ask(case):
        answer = case.call(base_url=url, session=session)
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=HOLDS)

    ask()
    log.info("%s %s, %s: %s", method, path, mode, dict(statuses))
    assert statuses.total() >= min(EACH, 20) or (method, path) not in TAKES_SOMETHING
