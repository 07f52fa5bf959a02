"""What a deal brings if it is won, learned from how the amounts of won deals changed."""

import json

import numpy as np
import pandas as pd
import pytest
from forecast_company import at, company, won

from crm.history import build_history
from models.amount import AmountModel, fit_amount

NOW = at("2026-05-15")


def fitted(*deals, **others) -> AmountModel:
    tables = company(*deals, **others)
    return fit_amount(tables, build_history(tables), NOW)


def asked(**deal) -> pd.DataFrame:
    row = {"stage": "Open", "deal_type": None, "segment": None, "amount_base": np.nan, **deal}
    text = dict.fromkeys(["stage", "deal_type", "segment"], "str")
    return pd.DataFrame([row]).astype({**text, "amount_base": "float64"})


def expected(model, **deal) -> float:
    return float(model.expected(asked(**deal)).iloc[0])


def shrinking(count: int) -> list[dict]:
    """Won deals shown at 100 and invoiced at 80, the change written the day they closed."""
    return [won("2026-03-10", amount=80) for _ in range(count)]


def closing_rows(count: int) -> list[dict]:
    row = {"changed_at": "2026-03-10T12:00:00Z", "field": "amount", "old_value": "100", "new_value": "80"}
    return [{**row, "deal_id": f"deal-{place}"} for place in range(count)]


def test_without_a_won_deal_a_shown_amount_is_taken_as_it_is_and_an_unknown_one_as_nothing():
    model = fitted({})
    assert expected(model, amount_base=100.0) == 100.0
    assert expected(model) == 0.0


def test_amounts_that_always_shrank_by_a_fifth_are_expected_to_shrink_by_nearly_a_fifth():
    model = fitted(*shrinking(200), deal_history=closing_rows(200))
    assert expected(model, amount_base=100.0) == pytest.approx(80.0, abs=1.5)


def test_a_few_won_deals_move_the_expectation_only_part_of_the_way():
    model = fitted(*shrinking(5), deal_history=closing_rows(5))
    assert 80.0 < expected(model, amount_base=100.0) < 100.0


def test_expected_amounts_of_won_deals_add_up_to_what_was_invoiced():
    amounts = np.random.default_rng(1).lognormal(10, 1, 300).round()
    final = (amounts * np.random.default_rng(2).lognormal(-0.3, 0.5, 300)).round()
    deals = [won("2026-03-10", amount=each) for each in final]
    rows = [
        {**row, "old_value": str(shown), "new_value": str(each)}
        for row, shown, each in zip(closing_rows(300), amounts, final, strict=True)
    ]
    model = fitted(*deals, deal_history=rows)
    shown = pd.concat([asked(amount_base=each) for each in amounts], ignore_index=True)
    assert model.expected(shown).sum() == pytest.approx(final.sum(), rel=0.03)
    assert model.log_spread(shown).iloc[0] == pytest.approx(0.5, abs=0.05)


def test_an_unknown_amount_is_the_mean_of_won_deals_drawn_toward_its_type_and_segment():
    accounts = [{"account_id": "big", "segment": "Enterprise"}, {"account_id": "small", "segment": "SMB"}]
    deals = [won("2026-03-10", amount=1000, deal_type="new", account_id="big") for _ in range(40)]
    deals += [won("2026-03-10", amount=100, deal_type="new", account_id="small") for _ in range(40)]
    model = fitted(*deals, accounts=accounts)
    assert expected(model) == 550.0
    assert 900 < expected(model, deal_type="new", segment="Enterprise") < 1000
    assert 100 < expected(model, deal_type="new", segment="SMB") < 200
    assert expected(model, deal_type="new", segment="never seen") == 550.0


def test_a_negative_amount_is_kept_and_zero_without_evidence_stays_zero():
    model = fitted(*shrinking(200), deal_history=closing_rows(200))
    assert expected(model, amount_base=-50.0) == -50.0
    assert expected(model, amount_base=0.0) == 0.0


def test_deals_won_later_than_the_training_moment_teach_nothing():
    tables = company(won("2026-03-10", amount=100), won("2026-05-10", amount=900))
    model = fit_amount(tables, build_history(tables), at("2026-04-01"))
    assert (model.wins, model.mean) == (1, 100.0)


def test_nine_in_ten_amounts_end_inside_their_range():
    final = 100 * np.exp(0.3 * np.random.default_rng(5).standard_normal(300))
    deals = [won("2026-03-10", amount=round(float(each), 2)) for each in final]
    rows = [
        {**row, "new_value": str(round(float(each), 2))}
        for row, each in zip(closing_rows(len(deals)), final, strict=True)
    ]
    low, high = fitted(*deals, deal_history=rows).low_high(asked(amount_base=100.0))
    inside = np.mean((final >= low.iloc[0]) & (final <= high.iloc[0]))
    assert 0.86 <= inside <= 0.94


def test_an_amount_that_is_not_positive_has_no_range():
    low, high = fitted(*shrinking(3), deal_history=closing_rows(3)).low_high(asked(amount_base=-50.0))
    assert (low.iloc[0], high.iloc[0]) == (-50.0, -50.0)


def test_a_model_comes_back_from_json_as_it_was():
    model = fitted(*shrinking(5), deal_history=closing_rows(5))
    assert AmountModel.from_dict(json.loads(json.dumps(model.to_dict()))) == model
