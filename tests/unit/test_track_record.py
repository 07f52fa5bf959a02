import pandas as pd
from forecast_company import EURO_QUARTERS, at, company, won

from crm.history import build_history
from models.track_record import judged_chances


def test_before_anything_was_published_nothing_was_right_or_wrong(ledger) -> None:
    history = build_history(company({}, won("2026-02-10")))
    judged = judged_chances(ledger, history, EURO_QUARTERS, at("2026-05-04"))
    assert {"deal_id", "as_of", "period_start", "said", "came"} <= set(judged)
    assert judged.empty and judged["came"].dtype == bool
    assert isinstance(judged["as_of"].dtype, pd.DatetimeTZDtype)
