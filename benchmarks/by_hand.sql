-- The catalogue's columns as a DuckDB engineer writes them for one data version: what deals and parties have so far
-- are running totals that an ASOF join looks up; only the windows of single deals join a moment with its rows.
-- Names in braces are epoch seconds: since when a source has been recorded; NULL if it never was.
WITH begun AS (
  SELECT
    spine_row, MAX(trusted) AS opened_at, CASE WHEN COUNT(*) = COUNT(trusted) THEN MIN(moment) END AS created_at
  FROM spine JOIN opening ON opening.deal_id = spine.deal_id AND moment <= as_of
  GROUP BY spine_row
),
changed AS (
  SELECT
    spine_row,
    COUNT(*) FILTER (field = 'stage') AS stage_moves,
    COUNT(*) FILTER (field = 'stage' AND new_number < old_number) AS stage_regressions,
    COUNT(*) FILTER (field = 'stage' AND new_number > old_number AND moment >= as_of - 2592000) AS stage_advances_30d,
    COUNT(*) FILTER (field = 'close_date' AND new_number > old_number) AS close_date_pushes,
    SUM(new_number - old_number) FILTER (field = 'close_date') AS close_date_days_pushed,
    SUM(new_number - old_number) FILTER (field = 'close_date' AND new_number > old_number) AS days_later,
    COUNT(*) FILTER (field = 'close_date' AND new_number < old_number AND moment >= as_of - 2592000)
      AS close_date_pulls_30d,
    COUNT(*) FILTER (field = 'amount') AS amount_changes,
    SUM(new_number - old_number) FILTER (field = 'amount') AS amount_changed,
    COUNT(*) FILTER (field = 'owner_id') AS owner_changes,
    COUNT(*) FILTER (field = 'forecast_category' AND new_number < old_number) AS category_downgrades,
    MAX(moment) FILTER (field = 'stage') AS last_move_at,
    MAX(moment) FILTER (field = 'stage' AND new_number > old_number) AS last_advance_at,
    MAX(moment) FILTER (field = 'close_date' AND new_number > old_number) AS last_push_at,
    MAX(moment) FILTER (field IN ('stage', 'close_date', 'amount')) AS last_edit_at
  FROM spine JOIN change ON change.deal_id = spine.deal_id AND moment <= as_of
  GROUP BY spine_row
),
talked AS (
  SELECT
    deal_id, moment, unanswered,
    COUNT(*) OVER so_far AS activities,
    COUNT(*) FILTER (direction = 'inbound') OVER so_far AS inbound,
    SUM(is_first) FILTER (contact_id IS NOT NULL) OVER so_far AS people,
    MIN(moment) FILTER (direction = 'inbound') OVER so_far AS first_inbound_at,
    MAX(moment) FILTER (direction = 'inbound') OVER so_far AS last_inbound_at,
    MAX(moment) FILTER (type = 'meeting') OVER so_far AS last_meeting_at
  FROM activity
  WINDOW so_far AS (PARTITION BY deal_id ORDER BY sequence ROWS UNBOUNDED PRECEDING)
  QUALIFY LEAD(moment) OVER (PARTITION BY deal_id ORDER BY sequence) IS DISTINCT FROM moment
),
talked_lately AS (
  SELECT
    spine_row,
    COUNT(*) FILTER (moment >= as_of - 604800) AS in_7d,
    COUNT(*) FILTER (moment >= as_of - 1209600) AS in_14d,
    COUNT(*) FILTER (moment >= as_of - 2592000) AS in_30d,
    COUNT(*) FILTER (moment >= as_of - 4838400) AS in_56d,
    COUNT(*) FILTER (direction = 'inbound' AND moment >= as_of - 1209600) AS inbound_14d,
    COUNT(*) FILTER (direction = 'inbound') AS inbound_60d,
    COUNT(*) FILTER (direction = 'outbound') AS outbound_60d,
    COUNT(*) FILTER (type = 'meeting') AS meetings_60d,
    AVG(reply_days) FILTER (direction = 'inbound') AS reply_days_60d,
    SUM(duration_minutes) FILTER (moment >= as_of - 2592000) AS minutes_30d,
    COUNT(DISTINCT contact_id) FILTER (moment >= as_of - 2592000) AS people_30d
  FROM spine JOIN activity ON activity.deal_id = spine.deal_id AND moment BETWEEN as_of - 5184000 AND as_of
  GROUP BY spine_row
),
met AS (
  SELECT
    deal_id, moment,
    SUM(is_first) OVER so_far AS contacts,
    MAX(moment) FILTER (is_first = 1) OVER so_far AS contact_added_at,
    COUNT(DISTINCT contact_id) FILTER (regexp_matches(role, '(?i)decision|economic|executive|sponsor|signatory'))
      OVER so_far AS decision_makers,
    COUNT(DISTINCT role) OVER so_far AS roles
  FROM contact
  WINDOW so_far AS (PARTITION BY deal_id ORDER BY sequence ROWS UNBOUNDED PRECEDING)
  QUALIFY LEAD(moment) OVER (PARTITION BY deal_id ORDER BY sequence) IS DISTINCT FROM moment
),
offered AS (
  SELECT spine_row, COUNT(DISTINCT product) AS products, AVG(discount) AS mean_discount
  FROM spine JOIN line ON line.deal_id = spine.deal_id AND moment <= as_of
  GROUP BY spine_row
),
owned AS (
  SELECT
    owner_id, moment,
    COUNT(*) FILTER (kind = 'won') OVER so_far AS won,
    COUNT(*) FILTER (kind IN ('won', 'lost')) OVER so_far AS ended,
    SUM(step) OVER so_far AS open_deals,
    SUM(days_open) FILTER (kind = 'won') OVER so_far AS cycle_days,
    COUNT(days_open) FILTER (kind = 'won') OVER so_far AS cycles,
    SUM(pushes) FILTER (kind IN ('won', 'lost') AND created >= {close_date}) OVER so_far AS pushes,
    COUNT(pushes) FILTER (kind IN ('won', 'lost') AND created >= {close_date}) OVER so_far AS followed
  FROM outcome
  WINDOW so_far AS (PARTITION BY owner_id ORDER BY moment)
),
bought AS (
  SELECT
    account_id, moment,
    COUNT(*) FILTER (kind = 'won') OVER so_far AS won,
    MAX(moment) FILTER (kind = 'won') OVER so_far AS last_won_at,
    SUM(step) OVER so_far AS open_deals,
    SUM(amount_base) FILTER (kind = 'won') OVER so_far AS amount,
    COUNT(amount_base) FILTER (kind = 'won') OVER so_far AS amounts
  FROM outcome
  WINDOW so_far AS (PARTITION BY account_id ORDER BY moment)
),
alike AS (
  SELECT
    segment, moment,
    SUM(days_open) OVER so_far AS cycle_days,
    COUNT(days_open) OVER so_far AS cycles,
    SUM(amount_base) OVER so_far AS amount,
    COUNT(amount_base) OVER so_far AS amounts
  FROM outcome JOIN accounts USING (account_id)
  WHERE kind = 'won'
  WINDOW so_far AS (PARTITION BY segment ORDER BY moment)
),
passed AS (
  SELECT
    stage_key, moment,
    COUNT(*) FILTER (kind = 'won') OVER so_far AS won,
    COUNT(*) FILTER (kind IN ('won', 'lost')) OVER so_far AS ended,
    SUM(days) FILTER (kind = 'won') OVER so_far AS won_days,
    COUNT(days) FILTER (kind = 'won') OVER so_far AS won_stays
  FROM passage
  WINDOW so_far AS (PARTITION BY stage_key ORDER BY moment)
),
all_ended AS (
  SELECT
    moment,
    COUNT(*) FILTER (kind = 'won') OVER so_far AS won,
    COUNT(*) OVER so_far AS ended,
    AVG(days_open) FILTER (kind = 'won') OVER so_far AS cycle_days,
    AVG(amount_base) FILTER (kind = 'won') OVER so_far AS amount,
    AVG(pushes) FILTER (created >= {close_date}) OVER so_far AS pushes
  FROM outcome
  WHERE kind IN ('won', 'lost')
  WINDOW so_far AS (ORDER BY moment)
),
company AS (
  SELECT as_of, (COALESCE(won, 0) + 1) / (COALESCE(ended, 0) + 4) AS win_rate, cycle_days, amount, pushes
  FROM (SELECT DISTINCT as_of FROM spine) ASOF LEFT JOIN all_ended ON moment <= as_of
),
stood AS (
  SELECT
    spine.*, state.* EXCLUDE (deal_id, moment), amount * rate_to_base AS amount_base,
    ROUND(amount * 65536) / 65536 AS exact_amount,
    accounts.segment, accounts.industry, accounts.region, accounts.employees, owners.hired_at,
    CASE WHEN state.owner_id IS NULL THEN 0 ELSE owners.activity_from END AS mailbox_from,
    begun.opened_at, begun.created_at
  FROM spine
  ASOF LEFT JOIN state ON state.deal_id = spine.deal_id AND state.moment <= spine.as_of
  LEFT JOIN begun ON begun.spine_row = spine.spine_row
  LEFT JOIN rates ON rates.as_of = spine.as_of AND rates.currency = COALESCE(state.currency, '')
  LEFT JOIN owners ON owners.user_id = state.owner_id
  LEFT JOIN accounts ON accounts.account_id = state.account_id
),
owners_now AS (
  SELECT asked.owner_id, asked.as_of, owned.* EXCLUDE (owner_id, moment), owned.won - COALESCE(before.won, 0) AS won_90d
  FROM (SELECT DISTINCT owner_id, as_of FROM stood WHERE owner_id IS NOT NULL) AS asked
  ASOF LEFT JOIN owned ON owned.owner_id = asked.owner_id AND owned.moment <= asked.as_of
  ASOF LEFT JOIN owned AS before ON before.owner_id = asked.owner_id AND before.moment < asked.as_of - 7776000
),
segments_now AS (
  SELECT
    asked.segment, asked.as_of,
    (COALESCE(alike.cycle_days, 0) + company.cycle_days * 10) / (COALESCE(cycles, 0) + 10) AS usual_cycle,
    (COALESCE(alike.amount, 0) + company.amount * 20) / (COALESCE(amounts, 0) + 20) AS usual_amount
  FROM (SELECT DISTINCT segment, as_of FROM stood WHERE segment IS NOT NULL) AS asked
  ASOF LEFT JOIN alike ON alike.segment = asked.segment AND alike.moment <= asked.as_of
  JOIN company ON company.as_of = asked.as_of
),
stages_now AS (
  SELECT asked.*, passed.* EXCLUDE (stage_key, moment)
  FROM (SELECT DISTINCT stage_key, as_of FROM stood WHERE stage_key IS NOT NULL) AS asked
  ASOF LEFT JOIN passed ON passed.stage_key = asked.stage_key AND passed.moment <= asked.as_of
),
-- Only the narrow key goes into each ASOF join: it sorts whatever it is given.
talked_by AS (
  SELECT spine_row, moment AS last_activity_at, talked.* EXCLUDE (deal_id, moment)
  FROM spine ASOF JOIN talked ON talked.deal_id = spine.deal_id AND moment <= as_of
),
talked_before AS (
  SELECT spine_row, talked.activities AS activities_before, talked.inbound AS inbound_before
  FROM (
    SELECT spine_row, deal_id, COALESCE(last_move_at, created_at) AS in_stage_since
    FROM spine JOIN begun USING (spine_row) LEFT JOIN changed USING (spine_row)
  ) AS staged ASOF JOIN talked ON talked.deal_id = staged.deal_id AND moment <= in_stage_since
),
met_by AS (
  SELECT spine_row, met.* EXCLUDE (deal_id, moment)
  FROM spine ASOF JOIN met ON met.deal_id = spine.deal_id AND moment <= as_of
),
accounts_now AS (
  SELECT asked.account_id, asked.as_of, bought.* EXCLUDE (account_id, moment)
  FROM (SELECT DISTINCT account_id, as_of FROM stood) AS asked
  ASOF JOIN bought ON bought.account_id = asked.account_id AND bought.moment <= asked.as_of
),
told AS (
  SELECT
    stood.*, changed.* EXCLUDE (spine_row), talked_by.* EXCLUDE (spine_row), talked_before.* EXCLUDE (spine_row),
    talked_lately.* EXCLUDE (spine_row), met_by.* EXCLUDE (spine_row), offered.* EXCLUDE (spine_row),
    COALESCE(last_move_at, created_at) AS in_stage_since,
    (as_of - opened_at) / 86400 AS age,
    created_at >= {stage} AS stage_told,
    created_at >= {close_date} AS close_date_told,
    created_at >= {inbound} AND created_at >= mailbox_from AS inbound_told,
    GREATEST(created_at, as_of - 604800) AS from_7d,
    GREATEST(created_at, as_of - 1209600) AS from_14d,
    GREATEST(created_at, as_of - 2592000) AS from_30d,
    GREATEST(created_at, as_of - 4838400) AS from_56d,
    GREATEST(created_at, as_of - 5184000) AS from_60d
  FROM stood
  LEFT JOIN changed ON changed.spine_row = stood.spine_row
  LEFT JOIN talked_by ON talked_by.spine_row = stood.spine_row
  LEFT JOIN talked_before ON talked_before.spine_row = stood.spine_row
  LEFT JOIN talked_lately ON talked_lately.spine_row = stood.spine_row
  LEFT JOIN met_by ON met_by.spine_row = stood.spine_row
  LEFT JOIN offered ON offered.spine_row = stood.spine_row
)
SELECT
  spine_row,
  CASE WHEN amount_base > 0 THEN LN(amount_base) END AS log_amount,
  stage, stage_sort_order AS stage_rank, forecast_category, deal_type, lead_source, pipeline,
  CASE WHEN stage_told THEN COALESCE(stage_moves, 0) END AS stage_moves,
  CASE WHEN stage_told THEN COALESCE(stage_regressions, 0) END AS stage_regressions,
  CASE WHEN from_30d >= {stage} THEN COALESCE(stage_advances_30d, 0) END AS stage_advances_30d,
  CASE WHEN close_date_told THEN COALESCE(close_date_pushes, 0) END AS close_date_pushes,
  CASE WHEN close_date_told THEN COALESCE(close_date_days_pushed, 0) END AS close_date_days_pushed,
  CASE WHEN from_30d >= {close_date} THEN COALESCE(close_date_pulls_30d, 0) END AS close_date_pulls_30d,
  CASE WHEN created_at >= {amount} THEN COALESCE(amount_changes, 0) END AS amount_changes,
  CASE WHEN created_at >= {owner_id} THEN COALESCE(owner_changes, 0) END AS owner_changes,
  (as_of - last_advance_at) / 86400 AS days_since_stage_advance,
  CASE WHEN created_at >= {amount} THEN exact_amount / NULLIF(exact_amount - COALESCE(amount_changed, 0), 0) END
    AS amount_to_first,
  CASE WHEN close_date_told THEN days_later / NULLIF(close_date_pushes, 0) END AS close_date_days_per_push,
  (as_of - last_push_at) / 86400 AS days_since_last_push,
  CASE WHEN created_at >= {forecast_category} THEN COALESCE(category_downgrades, 0) END AS category_downgrades,
  term_months,
  CASE WHEN partner_account_id IS NULL THEN 0 ELSE 1 END AS partner_involved,
  arr_change / NULLIF(told.amount, 0) AS arr_change_share,
  ends_on - as_of_day AS days_to_contract_end,
  CASE WHEN created_at >= {line} THEN COALESCE(products, 0) END AS products,
  CASE WHEN created_at >= {line} THEN mean_discount END AS mean_discount,
  age AS deal_age_days,
  CASE WHEN stage_told THEN (as_of - in_stage_since) / 86400 END AS days_in_stage,
  close_date - as_of_day AS days_to_close_date,
  period_end_day - close_date AS close_date_before_period_end,
  period_end_day - as_of_day AS days_to_period_end,
  CASE WHEN stage_told THEN (as_of - COALESCE(last_edit_at, created_at)) / 86400 END
    AS days_since_last_edit,
  business_days_left,
  days_in_stage * (COALESCE(stages_now.won_stays, 0) + 5)
    / NULLIF(COALESCE(stages_now.won_days, 0) + days_in_stage * 5, 0) AS stage_pace,
  age / NULLIF(COALESCE(usual_cycle, company.cycle_days), 0) AS age_pace,
  CASE WHEN created_at >= {activity} AND created_at >= mailbox_from
    THEN (as_of - COALESCE(last_activity_at, created_at)) / 86400 END AS days_since_last_activity,
  CASE WHEN as_of >= mailbox_from THEN (as_of - last_inbound_at) / 86400 END AS days_since_last_inbound,
  CASE WHEN from_7d >= {activity} AND from_7d >= mailbox_from THEN COALESCE(in_7d, 0) END AS activities_7d,
  CASE WHEN from_30d >= {activity} AND from_30d >= mailbox_from THEN COALESCE(in_30d, 0) END AS activities_30d,
  CASE WHEN created_at >= {activity} AND created_at >= mailbox_from THEN COALESCE(activities, 0) END
    AS activities_so_far,
  CASE WHEN from_14d >= {inbound} AND from_14d >= mailbox_from THEN COALESCE(told.inbound_14d, 0) END AS inbound_14d,
  CASE WHEN from_60d >= {inbound} AND from_60d >= mailbox_from THEN COALESCE(told.inbound_60d, 0) END AS inbound_60d,
  CASE WHEN from_60d >= {inbound} AND from_60d >= {outbound} AND from_60d >= mailbox_from
    THEN told.inbound_60d / NULLIF(outbound_60d, 0) END AS reply_ratio_60d,
  CASE WHEN from_60d >= {meeting} AND from_60d >= mailbox_from THEN COALESCE(told.meetings_60d, 0) END AS meetings_60d,
  CASE WHEN from_56d >= {activity} AND from_56d >= mailbox_from
    THEN (COALESCE(in_14d, 0) + 1) / (COALESCE(in_56d, 0) / 4 + 1) END AS engagement_trend,
  CASE WHEN created_at >= {contact} THEN COALESCE(contacts, 0) END AS contacts_known,
  CASE WHEN created_at >= {contact_id} AND created_at >= mailbox_from THEN COALESCE(people, 0) END AS people_engaged,
  CASE WHEN stage_told AND in_stage_since >= {activity} AND in_stage_since >= mailbox_from
    THEN COALESCE(activities - COALESCE(activities_before, 0), 0) END AS activities_since_stage_move,
  CASE WHEN stage_told AND in_stage_since >= {inbound} AND in_stage_since >= mailbox_from
    THEN COALESCE(inbound - COALESCE(inbound_before, 0), 0) END AS inbound_since_stage_move,
  CASE WHEN from_60d >= {inbound} AND from_60d >= mailbox_from THEN told.reply_days_60d END AS reply_days_60d,
  CASE WHEN inbound_told AND created_at >= {outbound} THEN COALESCE(told.unanswered, 0) END AS unanswered_messages,
  CASE WHEN inbound_told THEN ((as_of - last_inbound_at) / 86400 + 1)
    / ((last_inbound_at - first_inbound_at) / 86400 / NULLIF(told.inbound - 1, 0) + 1) END AS silence_rhythm,
  CASE WHEN as_of >= mailbox_from THEN (as_of - last_meeting_at) / 86400 END AS days_since_last_meeting,
  CASE WHEN from_30d >= {duration_minutes} AND from_30d >= mailbox_from THEN COALESCE(told.minutes_30d, 0) END
    AS minutes_30d,
  CASE WHEN from_30d >= {contact_id} AND from_30d >= mailbox_from THEN COALESCE(people_30d, 0) END
    AS people_engaged_30d,
  (as_of - contact_added_at) / 86400 AS days_since_contact_added,
  CASE WHEN created_at >= {role} THEN COALESCE(told.decision_makers, 0) END AS decision_makers,
  CASE WHEN created_at >= {role} THEN COALESCE(roles, 0) END AS roles_covered,
  (COALESCE(owners_now.won, 0) + win_rate * 20) / (COALESCE(owners_now.ended, 0) + 20) / win_rate
    AS owner_wins_to_company,
  CASE WHEN owner_id IS NOT NULL THEN COALESCE(owners_now.open_deals, 0) END AS owner_open_deals,
  CASE WHEN owner_id IS NOT NULL AND as_of - 7776000 >= {outcome} THEN COALESCE(won_90d, 0) END AS owner_wins_90d,
  as_of_day - hired_at AS owner_tenure_days,
  CASE WHEN owner_id IS NULL THEN 0 ELSE 1 END AS owner_known,
  (COALESCE(owners_now.cycle_days, 0) + company.cycle_days * 10) / (COALESCE(owners_now.cycles, 0) + 10)
    / NULLIF(company.cycle_days, 0) AS owner_cycle_to_company,
  (COALESCE(owners_now.pushes, 0) + company.pushes * 10) / (COALESCE(followed, 0) + 10) / NULLIF(company.pushes, 0)
    AS owner_pushes_to_company,
  segment, industry, region,
  CASE WHEN employees > 0 THEN LN(employees) END AS log_employees,
  CASE WHEN account_id IS NOT NULL THEN COALESCE(accounts_now.won, 0) END AS account_wins,
  (as_of - last_won_at) / 86400 AS days_since_account_win,
  CASE WHEN account_id IS NOT NULL THEN COALESCE(accounts_now.open_deals, 0) - 1 END AS account_open_siblings,
  amount_base * (COALESCE(accounts_now.amounts, 0) + 3)
    / NULLIF(COALESCE(accounts_now.amount, 0) + COALESCE(usual_amount, company.amount) * 3, 0) AS amount_to_usual,
  (COALESCE(stages_now.won, 0) + win_rate * 20) / (COALESCE(stages_now.ended, 0) + 20) AS stage_win_rate
FROM told
LEFT JOIN accounts_now USING (account_id, as_of)
LEFT JOIN owners_now USING (owner_id, as_of)
LEFT JOIN segments_now USING (segment, as_of)
LEFT JOIN stages_now USING (stage_key, as_of)
LEFT JOIN company USING (as_of)
ORDER BY spine_row
