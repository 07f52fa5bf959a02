"""Names under which the columns and files of an import are known elsewhere."""

from collections.abc import Mapping

NAMES: Mapping[str, Mapping[str, str]] = {
    "deals": {
        "deal_id": "deal_id opportunity_id opp_id id record_id deal_number deal_no number no",
        "created_at": "created_at created_date create_date createdate created created_on date_created opened opened_at"
        " open_date engage_date first_contact_date start_date",
        "stage": "stage stage_name deal_stage sales_stage phase pipeline_stage status state deal_status",
        "account_id": "account_id company_id customer_id client_id account company customer client",
        "owner_id": "owner_id user_id owner sales_agent sales_rep rep salesperson seller account_manager",
        "name": "name deal_name opportunity_name title deal",
        "pipeline": "pipeline pipeline_id record_type record_type_id",
        "deal_type": "deal_type type opportunity_type",
        "lead_source": "lead_source source origin channel",
        "currency": "currency currency_iso_code currency_code deal_currency_code",
        "amount": "amount deal_amount value deal_value close_value total revenue",
        "close_date": "close_date expected_close_date expected_close closing_date closedate close",
        "closed_at": "closed_at closed_date closed_on won_date close_time",
        "forecast_category": "forecast_category forecast_category_name",
        "is_closed": "is_closed closed",
        "is_won": "is_won won closed_won",
    },
    "deal_history": {
        "deal_id": "deal_id opportunity_id opp_id",
        "changed_at": "changed_at created_date timestamp changed modified_at date",
        "field": "field field_name property name column",
        "old_value": "old_value old from from_value previous_value",
        "new_value": "new_value new to to_value value",
        "changed_by": "changed_by created_by_id user_id modified_by",
    },
    "activities": {
        "activity_id": "activity_id id task_id event_id engagement_id",
        "occurred_at": "occurred_at timestamp start_time date activity_date",
        "deal_id": "deal_id opportunity_id what_id",
        "account_id": "account_id company_id",
        "user_id": "user_id owner_id",
        "contact_id": "contact_id who_id",
        "type": "type activity_type kind",
        "logged_at": "logged_at created_at created_date",
    },
    "accounts": {
        "account_id": "account_id company_id customer_id id account company customer",
        "name": "name account_name company_name account company",
        "industry": "industry sector",
        "segment": "segment type",
        "region": "region state",
        "country": "country office_location",
        "employees": "employees number_of_employees",
        "parent_account_id": "parent_account_id parent_id subsidiary_of",
    },
    "users": {
        "user_id": "user_id owner_id id sales_agent rep",
        "name": "name full_name sales_agent",
        "email": "email",
        "role": "role",
        "manager_id": "manager_id manager",
        "team": "team department",
        "region": "region regional_office division",
    },
}
"""Names under which columns are known elsewhere, the surest first."""
FILES = {
    "deal_history": "history change log audit",
    "activities": "activit task event call meeting engagement",
    "accounts": "account compan customer client",
    "users": "user owner team rep agent seller",
}
"""What the name of another table's file contains."""
