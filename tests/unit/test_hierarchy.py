"""Teams, regions, managers and heads of a company of ten people."""

from dataclasses import replace

import pandas as pd
from forecast_company import EURO_QUARTERS, USERS, at, company, won

from crm.bookings import bookings, bookings_by_node
from crm.calls import calls_at, quotas_at
from crm.hierarchy import UNKNOWN, build_hierarchy, org_chart, place_owners
from crm.history import build_history

NOW = at("2026-05-15")


def nodes(users, placed_owners=("a", "d", "e")):
    tables = company({}, users=users)
    history = build_history(tables)
    owners = pd.Series(list(placed_owners), dtype="str")
    placed = place_owners(tables, history, owners, pd.Series(NOW, index=owners.index))
    return build_hierarchy(org_chart(tables, history, NOW), placed)


def node(hierarchy, node_type, node_id):
    found = hierarchy.nodes.query("node_type == @node_type and node_id == @node_id")
    assert len(found) == 1
    return found.iloc[0]


def without(user_id):
    return [user for user in USERS if user["user_id"] != user_id]


def changed(user_id, **fields):
    return [{**user, **fields} if user["user_id"] == user_id else user for user in USERS]


def test_a_rep_stands_in_the_team_the_team_in_its_region_the_region_in_the_company():
    tree = nodes(USERS)
    assert tuple(node(tree, "rep", "a")[["node_name", "parent_type", "parent_id"]]) == ("Ana", "team", "T1")
    assert tuple(node(tree, "team", "T1")[["parent_type", "parent_id"]]) == ("region", "West")
    assert tuple(node(tree, "region", "West")[["parent_type", "parent_id"]]) == ("company", "company")
    assert pd.isna(node(tree, "company", "company")["parent_id"])


def test_a_managers_parent_is_the_manager_above_and_the_top_ones_the_company():
    tree = nodes(USERS)
    assert tuple(node(tree, "manager", "m1")[["parent_type", "parent_id"]]) == ("manager", "west-head")
    assert tuple(node(tree, "manager", "chief")[["parent_type", "parent_id"]]) == ("company", "company")


def test_the_head_of_a_team_manages_most_of_its_reps():
    assert node(nodes(USERS), "team", "T1")["head_id"] == "m1"
    assert node(nodes(changed("b", manager_id="m2")), "team", "T1")["head_id"] == "m1"


def test_a_team_split_evenly_between_two_managers_has_no_head():
    users = changed("b", manager_id="m2")
    users = [user for user in users if user["user_id"] != "c"]
    assert pd.isna(node(nodes(users), "team", "T1")["head_id"])


def test_the_head_of_a_region_of_several_teams_stands_above_their_managers_even_if_one_team_is_most_of_it():
    assert node(nodes(USERS), "region", "West")["head_id"] == "west-head"
    assert node(nodes(USERS), "region", "East")["head_id"] == "east-head"


def test_the_company_is_headed_by_the_user_without_a_manager_and_by_nobody_if_there_are_two():
    assert node(nodes(USERS), "company", "company")["head_id"] == "chief"
    assert pd.isna(node(nodes([*USERS, {"user_id": "stray"}]), "company", "company")["head_id"])


def test_who_has_left_heads_nothing():
    users = changed("chief", left_at="2026-05-01")
    assert pd.isna(node(nodes(users), "company", "company")["head_id"])


def test_a_circle_of_managers_ends_where_it_closes():
    tree = nodes(changed("chief", manager_id="m1"))
    assert node(tree, "manager", "chief")["parent_id"] == "m1"
    assert tree.roll_up([1.0, 1.0, 1.0])[tree.nodes["node_type"] == "company"] == [3.0]


def test_a_team_lies_in_the_region_of_most_of_its_reps():
    assert node(nodes(changed("a", region="East")), "team", "T1")["parent_id"] == "West"


def test_money_without_a_known_owner_counts_at_none_of_every_level():
    tree = nodes(USERS, placed_owners=("a", None))
    money = pd.Series(tree.roll_up([10.0, 5.0]), index=[tree.nodes["node_type"], tree.nodes["node_id"]])
    assert [money[level, UNKNOWN] for level in ("rep", "team", "region")] == [5.0, 5.0, 5.0]
    assert money["company", "company"] == 15.0
    assert tuple(node(tree, "rep", UNKNOWN)[["parent_type", "parent_id"]]) == ("team", UNKNOWN)


def test_a_manager_holds_the_whole_subtree_and_the_deals_owned_personally():
    tree = nodes(USERS, placed_owners=("a", "d", "m1"))
    money = pd.Series(tree.roll_up([1.0, 10.0, 100.0]), index=[tree.nodes["node_type"], tree.nodes["node_id"]])
    assert money["manager", "m1"] == 101.0
    assert money["manager", "west-head"] == 111.0
    assert money["rep", "m1"] == 100.0
    assert pd.isna(node(tree, "rep", "m1")["head_id"])


def test_reps_teams_and_regions_each_add_up_to_the_company():
    tree = nodes(USERS, placed_owners=("a", "d", "e", None, "nobody-we-know"))
    money = tree.nodes.assign(money=tree.roll_up([1.0, 2.0, 4.0, 8.0, 16.0])).groupby("node_type")["money"].sum()
    assert [money[level] for level in ("rep", "team", "region", "company")] == [31.0] * 4


MOVED = [{"user_id": "a", "changed_at": "2026-05-01", "field": "team", "old_value": "T2", "new_value": "T1"}]


def test_a_win_stays_with_the_team_the_owner_was_in_when_it_was_booked():
    tables = company(won("2026-04-20"), won("2026-05-05"), user_history=MOVED)
    booked = bookings(tables, build_history(tables), NOW)
    assert booked["team"].tolist() == ["T2", "T1"]
    assert booked["rep"].tolist() == ["a", "a"]


def test_at_a_past_moment_a_rep_stands_where_they_stood_then():
    tables = company({}, user_history=MOVED)
    history = build_history(tables)
    assert org_chart(tables, history, at("2026-04-15")).users["team"]["a"] == "T2"
    assert org_chart(tables, history, NOW).users["team"]["a"] == "T1"


def test_bookings_by_node_count_the_wins_known_by_then():
    tables = company(won("2026-04-20"), won("2026-05-05", owner_id="e"), won("2026-03-31"), {})
    history = build_history(tables)
    quarter = tables.calendar.period_of(NOW)
    booked = bookings_by_node(tables, history, NOW, quarter).set_index(["node_type", "node_id"])["booked"]
    assert (booked["company", "company"], booked["region", "West"], booked["rep", "e"]) == (200.0, 100.0, 100.0)
    earlier = bookings_by_node(tables, history, at("2026-05-01"), quarter).set_index(["node_type", "node_id"])["booked"]
    assert earlier["company", "company"] == 100.0


def call(user_id, submitted_at, category, amount, **more):
    return {
        "user_id": user_id,
        "period_start": "2026-04-01",
        "submitted_at": submitted_at,
        "category": category,
        "amount": amount,
        **more,
    }


def latest_calls(*calls, moment=NOW, calendar=None, deals=({},)):
    tables = company(*deals, forecast_calls=list(calls), **({"calendar": calendar} if calendar else {}))
    quarter = tables.calendar.period_of(NOW)
    return calls_at(tables, moment, quarter, bookings(tables, build_history(tables), moment, quarter))


def test_the_latest_call_of_each_category_counts_and_none_made_later():
    calls = latest_calls(
        call("a", "2026-04-10", "commit", 100),
        call("a", "2026-05-10", "commit", 150),
        call("a", "2026-05-12", "best_case", 300),
        call("a", "2026-05-20", "commit", 999),
    )
    assert calls.loc["a", ["commit", "best_case"]].tolist() == [150.0, 300.0]
    assert pd.isna(calls.loc["a", "most_likely"])
    assert calls.loc["a", "submitted_at"] == at("2026-05-12")


def test_calls_per_category_are_made_cumulative_with_what_was_won_when_they_were_made():
    deals = (won("2026-04-20"), won("2026-05-12", owner_id="b"))
    per_category = replace(EURO_QUARTERS, calls="per_category")
    calls = latest_calls(
        call("m1", "2026-05-10", "commit", 50),
        call("m1", "2026-05-10", "most_likely", 20),
        call("m1", "2026-05-10", "best_case", 30),
        calendar=per_category,
        deals=deals,
    )
    assert calls.loc["m1", ["commit", "most_likely", "best_case"]].tolist() == [150.0, 170.0, 200.0]


def test_a_quota_is_the_row_valid_last_and_an_undated_one_always_valid():
    quota = {"user_id": "a", "period_start": "2026-04-01", "amount": 100}
    later, future = {**quota, "amount": 120, "valid_from": "2026-05-01"}, {**quota, "valid_from": "2026-06-01"}
    tables = company({}, quotas=[quota, later, future])
    quarter = tables.calendar.period_of(NOW)
    assert quotas_at(tables, NOW, quarter)["a"] == 120.0
    assert quotas_at(tables, at("2026-04-15"), quarter)["a"] == 100.0


def test_a_quota_in_another_currency_without_a_rate_is_unknown():
    quota = {"user_id": "a", "period_start": "2026-04-01", "amount": 100, "currency": "USD"}
    tables = company({}, quotas=[quota])
    assert "a" not in quotas_at(tables, NOW, tables.calendar.period_of(NOW))
    rates = [{"currency": "USD", "valid_from": "2026-01-01", "rate_to_base": 0.5}]
    tables = company({}, quotas=[quota], exchange_rates=rates)
    assert quotas_at(tables, NOW, tables.calendar.period_of(NOW))["a"] == 50.0
