"""A synthetic company that has lived with the service for a while: every Monday its scores and forecast were published.

Models are trained with what was known then; what each Monday says is what would have been said then. The ledger keeps
it under the Monday's clock.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from crm.calendar import Calendar
from crm.history import snapshot_spine
from crm.store import read_tables, write_version
from crm.synthetic import CompanyConfig, export, simulate
from crm.tables import CrmTables
from crm.versions import import_lock
from ledger.ledger import Ledger, Publication, open_ledger
from models.bundle import Bundle, bundle_for
from models.forecaster import forecast_nodes
from models.review import review_cuts
from models.scorer import score_deals
from training.fit import train

LATE = "CHF"
LATER = pd.Timedelta(minutes=2)
"""So long a publication takes."""


def lived_company(workspace: Path, config: CompanyConfig, *trained_as_of: pd.Timestamp) -> Path:
    """Import a company, train a model at each of some past moments, and publish every Monday from the first one on."""
    tables = export(simulate(config))
    tables = replace(with_late_rate(tables), first_import_at=tables.as_of)
    with import_lock(workspace):
        write_version(workspace, tables, changed=set(tables.tables), stages_derived=False, currency_given=True)
    for moment in trained_as_of:
        train(workspace, now=moment, as_of=moment, promote="always")
    publish_mondays(workspace, trained_as_of[0])
    return workspace


def with_late_rate(tables: CrmTables) -> CrmTables:
    """The tables with a currency whose only rate came after the period of the data's moment had begun."""
    late = pd.DataFrame([{"currency": LATE, "valid_from": tables.as_of, "rate_to_base": 1.1}])
    rates = tables.get("exchange_rates")
    return replace(tables, tables={**tables.tables, "exchange_rates": pd.concat([rates, late.astype(rates.dtypes)])})


def publish_mondays(workspace: Path, first: pd.Timestamp) -> None:
    """Publish what the model of then says as of each Monday 09:00 from a moment on, and what the last one says now."""
    tables = read_tables(workspace)
    ledger = ledger_of(workspace)
    cuts = [*mondays(tables.calendar, first, tables.as_of), tables.as_of]
    spoke = {cut: bundle_for(workspace, cut, tables.as_of) for cut in cuts}
    for version in {bundle.model_version for bundle in spoke.values()}:
        mine = [cut for cut in cuts if spoke[cut].model_version == version]
        publish(ledger, spoke[mine[0]], tables, mine)
    ledger.engine.dispose()


def publish(ledger: Ledger, bundle: Bundle, tables: CrmTables, cuts: list[pd.Timestamp]) -> None:
    """What one model says at some moments, each under its own clock."""
    tables, history = bundle.read_history(tables)
    scores = score_deals(bundle, tables, history, snapshot_spine(history, cuts), explain=False)
    for cut in cuts:
        then = scores[scores["as_of"] == cut].reset_index(drop=True)
        period = tables.calendar.period_of(cut)
        said = (cut, cut + LATER, bundle.model_version, tables.data_version)
        ledger.publish_scores(Publication("scores", "published", *said), then)
        nodes = forecast_nodes(bundle, tables, history, then, as_of=cut, period=period)
        ledger.publish_forecast(Publication("forecast", "published", *said), nodes)


def mondays(calendar: Calendar, first: pd.Timestamp, last: pd.Timestamp) -> list[pd.Timestamp]:
    """The Mondays 09:00 local between two moments."""
    cuts = [cut for period in calendar.periods_between(first, last) for cut in review_cuts(calendar, period, last)]
    return [cut for cut in cuts if first <= cut < last]


def ledger_of(workspace: Path) -> Ledger:
    """The company's ledger."""
    return open_ledger(f"sqlite:///{workspace}/dealcast.db")
