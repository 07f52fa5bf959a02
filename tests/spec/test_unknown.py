"""What nobody recorded is unknown, not zero; what is recorded and did not happen is zero."""

import pytest
from crm_by_hand import activity, change, crm, feature_of, features_of

from features.catalogue import CATALOGUE

DEAL = {"deal_id": "d1", "created_at": "2026-01-01", "stage": "Qualify"}
OTHER = {"deal_id": "d2", "created_at": "2026-01-01", "stage": "Qualify"}
NAN = float("nan")
ENGAGEMENT = [declared.name for declared in CATALOGUE if declared.family == "engagement"]


def test_before_the_first_activity_of_all_nothing_is_known_after_it_silence_is_zero():
    newer = OTHER | {"deal_id": "d3", "created_at": "2026-02-02"}
    rows = [activity("2026-02-01", direction="inbound", type="call")]
    tables = crm([DEAL, OTHER, newer], activities=rows, recorded_since=None)
    asked = ("d2", "2026-01-31T23:59:59"), ("d2", "2026-02-01"), ("d2", "2026-02-08"), ("d3", "2026-02-03")
    built = features_of(tables, *asked, names=ENGAGEMENT)
    assert built[ENGAGEMENT].iloc[0].isna().all()
    assert built["days_since_last_activity"].iloc[3] == 1.0  # since the deal was created
    # A window is known once the log covers it, a count since the beginning for deals that began later than the log.
    assert built["activities_7d"].isna().tolist() == [True, True, False, False]
    assert built["activities_so_far"].isna().tolist() == [True, True, True, False]
    assert built["activities_so_far"].iloc[3] == 0


def test_what_no_row_ever_tells_is_unknown_even_where_other_rows_are():
    rows = [activity("2026-01-02", type="call"), activity("2026-01-03", direction="inbound", type="email")]
    met = activity("2026-01-04", direction="outbound", type="meeting")
    deals = [DEAL, OTHER | {"created_at": "2026-02-01"}]
    for told, answer in ((rows, [0, NAN, NAN, NAN]), ([*rows, met], [0, 0, 0, NAN])):
        names = ["inbound_14d", "meetings_60d", "unanswered_messages", "people_engaged"]
        built = features_of(crm(deals, activities=told, recorded_since=None), ("d2", "2026-02-02"), names=names)
        assert built[names].iloc[0].tolist() == pytest.approx(answer, nan_ok=True)


@pytest.mark.parametrize(
    ("activity_from", "so_far", "in_week"),
    [("2026-01-01", 1.0, 1.0), ("2026-01-20", NAN, 1.0), ("2026-02-01", NAN, NAN), (None, NAN, NAN)],
    ids=["in time", "for a fortnight", "this week", "never"],
)
def test_what_a_mailbox_that_was_not_connected_did_not_see_is_unknown(activity_from, so_far, in_week):
    users = [
        {"user_id": "u1", "activity_from": activity_from},
        {"user_id": "u2", "activity_from": "2025-01-01"},
    ]
    rows = [activity("2026-02-01")]
    tables = crm([DEAL | {"owner_id": "u1"}], activities=rows, users=users, tracked=["owner_id"])
    built = features_of(tables, ("d1", "2026-02-02"), names=["activities_so_far", "activities_7d"]).iloc[0]
    assert built["activities_so_far"] == pytest.approx(so_far, nan_ok=True)
    assert built["activities_7d"] == pytest.approx(in_week, nan_ok=True)


def test_without_any_connected_mailbox_in_the_data_the_log_is_taken_as_it_is():
    users = [{"user_id": "u1", "activity_from": None}]
    tables = crm([DEAL | {"owner_id": "u1"}], activities=[activity("2026-02-01")], users=users, tracked=["owner_id"])
    assert feature_of(tables, "activities_so_far", "2026-02-02") == 1.0


def test_the_age_of_deals_loaded_in_bulk_is_unknown_until_they_are_opened_again():
    loaded = [DEAL | {"deal_id": f"b{n}", "created_at": "2026-01-10T12:00:07"} for n in range(100)]
    again = [
        change("b0", "2026-02-01", "stage", "Qualify", "Lost"),
        change("b0", "2026-03-01", "stage", "Lost", "Qualify"),
    ]
    dated = [DEAL | {"deal_id": f"c{n}", "created_at": "2026-01-11"} for n in range(100)]
    tables = crm([*loaded, *dated, DEAL], deal_history=again)
    asked = ("b1", "2026-03-11"), ("b0", "2026-03-11"), ("c1", "2026-03-11"), ("d1", "2026-03-11")
    built = features_of(tables, *asked, names=["deal_age_days", "stage_moves"])
    assert built["deal_age_days"].tolist() == pytest.approx([NAN, 10, 59, 69], nan_ok=True)
    assert built["stage_moves"].tolist() == pytest.approx([NAN, NAN, 0, 0], nan_ok=True)


def test_a_move_from_a_stage_that_is_no_longer_in_the_table_is_neither_forward_nor_back():
    renamed = [change("d1", "2026-02-01", "stage", "Qualification (old)", "Qualify")]
    built = features_of(crm([DEAL], deal_history=renamed), ("d1", "2026-02-02")).iloc[0]
    assert built["stage_moves"] == 1
    assert built["stage_regressions"] == 0 and built["stage_advances_30d"] == 0


@pytest.mark.parametrize("given", [{}, {"activities": [], "deal_contacts": []}], ids=["no tables", "empty tables"])
def test_without_activities_engagement_is_unknown(given):
    built = features_of(crm([DEAL], recorded_since=None, **given), ("d1", "2026-06-01"), names=ENGAGEMENT)
    assert built[ENGAGEMENT].isna().all(axis=None)


def test_before_a_field_has_any_history_its_changes_are_unknown():
    rows = [change("d2", "2026-02-01", "close_date", "2026-03-01", "2026-04-01")]
    newer = DEAL | {"deal_id": "d3", "created_at": "2026-02-02"}
    tables = crm([DEAL, OTHER, newer], deal_history=rows, recorded_since=None)
    names = ["close_date_pushes", "close_date_days_pushed"]
    asked = ("d1", "2026-01-31"), ("d1", "2026-02-01"), ("d1", "2026-03-03"), ("d3", "2026-03-03")
    built = features_of(tables, *asked, names=[*names, "close_date_pulls_30d", "amount_changes"])
    assert built[names].iloc[:3].isna().all(axis=None)
    assert (built[names].iloc[3] == 0).all()
    assert built["close_date_pulls_30d"].tolist() == pytest.approx([NAN, NAN, 0, 0], nan_ok=True)
    assert built["amount_changes"].isna().all()


def test_without_stage_history_the_days_in_stage_are_unknown():
    tables = crm([DEAL], deal_history=[change("d1", "2026-02-01", "amount", "1", "2")], recorded_since=None)
    assert features_of(tables, ("d1", "2026-03-01"), names=["days_in_stage"]).isna()["days_in_stage"].all()


def test_without_an_owner_the_owner_is_unknown_and_the_win_rate_is_the_companys():
    won = {"deal_id": "w", "created_at": "2026-01-01", "stage": "Won", "closed_at": "2026-01-20", "owner_id": "u1"}
    lost = won | {"deal_id": "l", "stage": "Lost"}
    tables = crm(
        [DEAL, won, lost], users=[{"user_id": "u1", "hired_at": "2025-01-01"}], tracked=["owner_id", "account_id"]
    )
    built = features_of(tables, ("d1", "2026-02-01")).iloc[0]
    assert built["owner_known"] == 0
    assert built["owner_wins_to_company"] == 1.0
    unknown = ["owner_open_deals", "owner_wins_90d", "owner_tenure_days", "account_wins", "days_since_account_win"]
    assert built[[*unknown, "account_open_siblings", "segment", "region", "industry", "log_employees"]].isna().all()


def test_an_owner_the_users_table_does_not_know_has_a_record_but_no_tenure():
    deal = DEAL | {"owner_id": "u9"}
    built = features_of(crm([deal], tracked=["owner_id"]), ("d1", "2026-04-01")).iloc[0]
    assert built["owner_known"] == 1 and built["owner_open_deals"] == 1 and built["owner_wins_90d"] == 0
    assert built[["owner_tenure_days"]].isna().all()


def test_a_record_of_ninety_days_is_unknown_in_the_company_s_first_ninety_days():
    won = {"deal_id": "w", "created_at": "2026-01-01", "stage": "Won", "closed_at": "2026-01-20", "owner_id": "u1"}
    tables = crm([DEAL | {"owner_id": "u1"}, won], tracked=["owner_id"], recorded_since=None)
    built = features_of(tables, ("d1", "2026-03-31T23:59:59"), ("d1", "2026-04-01"), names=["owner_wins_90d"])
    assert built["owner_wins_90d"].tolist() == pytest.approx([NAN, 1], nan_ok=True)


def test_an_amount_in_a_currency_without_a_rate_is_unknown():
    rates = [{"currency": "USD", "valid_from": "2026-01-01", "rate_to_base": 0.5}]
    deals = [
        DEAL | {"amount": 100.0, "currency": "USD"},
        OTHER | {"amount": 100.0, "currency": "JPY"},
        OTHER | {"deal_id": "d3", "amount": 100.0},
        OTHER | {"deal_id": "d4", "amount": 0.0, "currency": "EUR"},
    ]
    tables = crm(deals, exchange_rates=rates, tracked=["amount", "currency"])
    built = features_of(tables, *((f"d{n}", "2026-02-01") for n in (1, 2, 3, 4)), names=["log_amount"])
    assert built["log_amount"].iloc[0] == pytest.approx(3.912023005428146)  # ln 50
    assert built["log_amount"].iloc[1:].isna().all()


def test_a_currency_that_only_the_history_names_still_has_its_rate():
    rates = [{"currency": "USD", "valid_from": "2026-01-01", "rate_to_base": 0.5}]
    moved = [change("d1", "2026-03-01", "currency", "USD", "EUR")]
    deal = DEAL | {"amount": 100.0, "currency": "EUR"}
    tables = crm([deal], deal_history=moved, exchange_rates=rates, tracked=["amount", "currency"])
    built = features_of(tables, ("d1", "2026-02-01"), ("d1", "2026-04-01"), names=["log_amount"])
    assert built["log_amount"].tolist() == pytest.approx([3.912023005428146, 4.605170185988092])  # ln 50, ln 100


def test_a_value_without_a_row_is_unknown_for_untracked_fields_and_read_back_for_tracked_ones():
    deal = DEAL | {"close_date": "2026-05-01"}
    pushed = [change("d1", "2026-03-01", "close_date", "2026-04-01", "2026-05-01")]
    untracked = crm([deal], deal_history=pushed)
    tracked = crm([deal], deal_history=pushed, tracked=["close_date"])
    names = ["days_to_close_date"]
    asked = [("d1", "2026-02-01"), ("d1", "2026-03-01")]
    assert features_of(untracked, *asked, names=names)["days_to_close_date"].isna().tolist() == [True, False]
    assert features_of(tracked, *asked, names=names)["days_to_close_date"].tolist() == [59, 61]
    assert feature_of(untracked, "days_to_close_date", "2026-03-01") == 61
