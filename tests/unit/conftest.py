"""The door of the service, to knock at: with the login pages, and a few routes of a kind with its own."""

from typing import Annotated

import pandas as pd
import pytest
from fastapi import Depends, FastAPI, Form
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from crm.errors import DealcastError
from serving.access import Access
from serving.auth import Gate
from serving.door import Door
from serving.errors import answer_explained, answer_http, answer_invalid
from serving.given import Reader
from serving.guard import Guard
from serving.known_keys import KnownKeys
from serving.pages.every import add_pages
from serving.rules import OPEN, Needs
from serving.schema import ScoreRequest
from serving.sign_in import add_sign_in

ELSEWHERE = ("203.0.113.7", 50000)


@pytest.fixture
def key(ledger):
    def create(*scopes, name="test", **options):
        return ledger.create_key(name, scopes, now=pd.Timestamp.now("UTC"), **options)[0]

    return create


@pytest.fixture
def access():
    return Access()


@pytest.fixture
def behind_the_door(ledger, access):
    """The door, the login pages, and a few routes of a kind with the service's."""
    api = FastAPI(redirect_slashes=False)
    api.state.ledger = ledger
    api.state.gate = Gate(ledger, KnownKeys(ledger), access, lambda: {})
    api.add_middleware(Guard, gate=lambda: api.state.gate)
    api.add_middleware(Door)
    api.add_exception_handler(DealcastError, answer_explained)
    api.add_exception_handler(HTTPException, answer_http)
    api.add_exception_handler(RequestValidationError, answer_invalid)
    add_sign_in(api)
    add_pages(api)

    @api.get("/v1/whoami")
    def whoami(caller: Reader):
        return {"name": caller.name}

    @api.post("/v1/score")
    def score(asked: ScoreRequest):
        return {"deal_ids": asked.deal_ids}

    @api.post("/form")
    def form(note: Annotated[str, Form()], caller: Reader):
        return {"note": note}

    @api.get("/v1/bug")
    def bug():
        raise RuntimeError("the secret of the house")

    @api.get("/livez", dependencies=[Depends(OPEN)])
    def livez():
        return {"status": "alive"}

    @api.get("/metrics", dependencies=[Depends(Needs("admin", but_here=True))])
    def metrics():
        return {}

    def visit(client=ELSEWHERE, **options):
        return TestClient(api, client=client, follow_redirects=False, **options)

    return visit
