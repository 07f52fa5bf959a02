"""A synthetic company that has lived with the service for a while: every Monday its scores and forecast were published.

The model is trained once, at the first of these Mondays, with what was known then; what each Monday says is what would
have been said then. The ledger keeps it under the Monday's clock.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from crm.calendar import Calendar
from crm.history import snapshot_spine
from crm.store import import_lock, read_tables, write_version
from crm.synthetic import CompanyConfig, export, simulate
from ledger.ledger import Ledger, Publication, open_ledger
from models.bundle import bundle_for
from models.forecaster import forecast_nodes
from models.review import review_cuts
from models.scorer import score_deals

LATER = pd.Timedelta(minutes=2)
"""So long a publication takes."""


def build_company(workspace: Path, config: CompanyConfig, trained_as_of: pd.Timestamp) -> Path:
    """Import a company, train its champion at a past moment, and publish every Monday from there on."""
    from training.fit import train

    tables = export(simulate(config))
    tables = replace(tables, first_import_at=tables.as_of)
    with import_lock(workspace):
        write_version(workspace, tables, changed=set(tables.tables), stages_derived=False, currency_given=True)
    train(workspace, now=trained_as_of, as_of=trained_as_of, promote="always")
    publish_mondays(workspace, trained_as_of)
    return workspace


def publish_mondays(workspace: Path, first: pd.Timestamp, leave_out: Callable[[pd.Timestamp], bool] = bool) -> None:
    """Publish, as of each Monday 09:00 from a moment on, what the champion says then, and what it says now."""
    tables = read_tables(workspace)
    bundle = bundle_for(workspace, tables.as_of, tables.as_of)
    tables, history = bundle.read_history(tables)
    ledger = open_ledger(f"sqlite:///{workspace}/dealcast.db")
    cuts = [*mondays(tables.calendar, first, tables.as_of), tables.as_of]
    scores = score_deals(bundle, tables, history, snapshot_spine(history, cuts), explain=False)
    for cut in cuts:
        then = scores[scores["as_of"] == cut].reset_index(drop=True)
        period = tables.calendar.period_of(cut)
        said = (cut, cut + LATER, bundle.model_version, tables.data_version)
        ledger.publish_scores(Publication("scores", "published", *said), then)
        nodes = forecast_nodes(bundle, tables, history, then, as_of=cut, period=period)
        ledger.publish_forecast(Publication("forecast", "published", *said), nodes)
    ledger.engine.dispose()


def mondays(calendar: Calendar, first: pd.Timestamp, last: pd.Timestamp) -> list[pd.Timestamp]:
    """The Mondays 09:00 local between two moments."""
    cuts = [cut for period in calendar.periods_between(first, last) for cut in review_cuts(calendar, period, last)]
    return [cut for cut in cuts if first <= cut < last]


def ledger_of(workspace: Path) -> Ledger:
    """The company's ledger."""
    return open_ledger(f"sqlite:///{workspace}/dealcast.db")
