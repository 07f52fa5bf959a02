"""Which features tell the same story.

Correlated features share what they say among themselves by chance, even with opposite signs. As a reason they count
together, told by the strongest of them. Whoever may read one may read all of a topic. A feature that is not named here
is a topic of its own.
"""

from collections.abc import Mapping

TOPICS: Mapping[str, tuple[str, ...]] = {
    "stage": ("stage", "stage_rank", "stage_win_rate"),
    "progress": ("stage_moves", "stage_regressions", "stage_advances_30d", "days_since_stage_advance"),
    "pace": ("deal_age_days", "days_in_stage", "stage_pace", "age_pace"),
    "close date": ("days_to_close_date", "close_date_before_period_end"),
    "pushes": (
        *("close_date_pushes", "close_date_days_pushed", "close_date_days_per_push"),
        *("close_date_pulls_30d", "days_since_last_push"),
    ),
    "category": ("forecast_category", "category_downgrades"),
    "amount": ("log_amount", "amount_changes", "amount_to_first", "amount_to_usual"),
    "silence": (
        *("days_since_last_activity", "days_since_last_inbound", "silence_rhythm", "unanswered_messages"),
        *("days_since_last_edit",),
    ),
    "conversation": (
        *("activities_7d", "activities_30d", "activities_so_far", "activities_since_stage_move"),
        *("inbound_14d", "inbound_60d", "inbound_since_stage_move", "reply_ratio_60d", "reply_days_60d"),
        *("engagement_trend", "minutes_30d"),
    ),
    "meetings": ("meetings_60d", "days_since_last_meeting"),
    "people": (
        *("contacts_known", "people_engaged", "people_engaged_30d", "days_since_contact_added"),
        *("decision_makers", "roles_covered"),
    ),
    "owner": (
        *("owner_wins_to_company", "owner_open_deals", "owner_wins_90d", "owner_tenure_days", "owner_cycle_to_company"),
        *("owner_pushes_to_company",),
    ),
    "customer": ("account_wins", "days_since_account_win", "account_open_siblings"),
    "offer": ("products", "mean_discount", "term_months", "arr_change_share", "days_to_contract_end"),
    "calendar": ("days_to_period_end", "business_days_left"),
}

TOPIC_OF = {name: topic for topic, names in TOPICS.items() for name in names}
