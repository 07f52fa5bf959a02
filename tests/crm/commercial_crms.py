"""CRMs as their stand-ins know them, for tests that ask the same of each: the commercial ones, and Creme."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from creme_stand_in import TOKEN as CREME_TOKEN
from creme_stand_in import CremeStandIn
from creme_stand_in import deal_id as creme_id
from dynamics_stand_in import SECRET as DYNAMICS_SECRET
from dynamics_stand_in import TENANT, DynamicsStandIn, stage_name
from dynamics_stand_in import deal_id as dynamics_id
from dynamics_stand_in import key as dynamics_key
from hubspot_stand_in import TOKEN, HubSpotStandIn, stage_id
from hubspot_stand_in import deal_id as hubspot_id
from invented_company import STAGES, Company
from salesforce_stand_in import SECRET, SalesforceStandIn, key

from crm.tables import CrmTables


@dataclass(frozen=True)
class Commercial:
    """One CRM.

    Attributes
    ----------
    words : settings of the connection beside the address, which they may name: {url}.
    secret : environment variable and value.
    deal_id : the CRM's id of a deal, by its number.
    owner_id, account_id : the same of a seller and an account.
    writes : what is in the path or body of a request that writes scores.
    region : the custom field that the company's deals have; None where it reads none.
    stage : how the CRM names a stage.
    """

    name: str
    stand_in: Callable[[Company], Any]
    words: tuple[str, ...]
    secret: tuple[str, str]
    deal_id: Callable[[int], str]
    owner_id: Callable[[int], str]
    account_id: Callable[[int], str]
    writes: bytes
    region: str | None
    stage: Callable[[str], str] = str

    def settings(self, url: str) -> tuple[str, ...]:
        """The words of a connection to a stand-in at this address."""
        return (f"url={url}", "pause_seconds=0.001", *(word.format(url=url) for word in self.words))


SALESFORCE = Commercial(
    "salesforce",
    SalesforceStandIn,
    ("client_id=app",),
    ("DEALCAST_SALESFORCE_CLIENT_SECRET", SECRET),
    partial(key, "006"),
    partial(key, "005"),
    partial(key, "001"),
    b"composite/sobjects",
    "Region__c",
)
HUBSPOT = Commercial(
    "hubspot",
    HubSpotStandIn,
    ("search_pause_seconds=0", "base_currency=EUR"),
    ("DEALCAST_HUBSPOT_ACCESS_TOKEN", TOKEN),
    hubspot_id,
    lambda number: str(70 + number),
    lambda number: str(500 + number),
    b"batch/update",
    "region",
    stage_id,
)
DYNAMICS = Commercial(
    "dynamics",
    DynamicsStandIn,
    (f"tenant_id={TENANT}", "client_id=app", "login_url={url}"),
    ("DEALCAST_DYNAMICS_CLIENT_SECRET", DYNAMICS_SECRET),
    dynamics_id,
    partial(dynamics_key, "5e11"),
    partial(dynamics_key, "acc0"),
    b"msdyn_entityid",
    "new_region",
    stage_name,
)
CREME = Commercial(
    "creme",
    CremeStandIn,
    (),
    ("DEALCAST_CREME_TOKEN", CREME_TOKEN),
    creme_id,
    lambda number: str(70 + number),
    lambda number: str(500 + number),
    b"/deal_score/scores",
    None,
)
COMMERCIAL = (SALESFORCE, HUBSPOT, DYNAMICS, CREME)


def assert_is_the_company(tables: CrmTables, company: Company, crm: Commercial) -> None:
    """Every deal with its values and its whole past, every call, nothing twice, nothing else."""
    deals = tables.get("deals").set_index("deal_id")
    expected = {crm.deal_id(deal.number): deal for deal in company.deals}
    assert set(deals.index) == set(expected) and deals.index.is_unique
    flags = {stage: closed for stage, closed, _ in STAGES}
    for deal_id, deal in expected.items():
        row = deals.loc[deal_id]
        told = (row["stage"], row["amount"], f"{row['close_date']:%Y-%m-%d}", row["created_at"])
        at = pd.Timestamp(deal.created_at)
        assert told == (crm.stage(deal.now.stage), deal.now.amount, deal.now.close_on, at), deal_id
        assert pd.notna(row["deleted_at"]) == (deal.deleted_at is not None), deal_id
        if flags[deal.now.stage]:
            assert pd.notna(row["closed_at"]), deal_id
    history = tables.get("deal_history")
    stages = history[history["field"] == "stage"].sort_values(["deal_id", "changed_at"], kind="stable")
    told = list(zip(stages["deal_id"], stages["changed_at"], stages["old_value"], stages["new_value"], strict=True))
    past = []
    for deal_id, deal in sorted(expected.items()):
        before = None
        for state in deal.states:
            if state.stage != before:
                old = None if before is None else crm.stage(before)
                past.append((deal_id, pd.Timestamp(state.at), old, crm.stage(state.stage)))
            before = state.stage
    assert [(d, a, None if pd.isna(o) else o, n) for d, a, o, n in told] == past
    activities = tables.get("activities")
    activities = activities[activities["type"] == "call"]
    assert sorted(zip(activities["deal_id"], activities["occurred_at"], strict=True)) == sorted(
        (crm.deal_id(call.deal), pd.Timestamp(call.at)) for call in company.calls
    )
