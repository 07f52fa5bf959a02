"""From declarations to one SQL statement over a spine of (deal_id, as_of), the same for one deal now as for millions.

Four levels: (a) the dated rows of the spine's deals; (b) each moment of a deal joined to its rows up to then, of which
there are tens, and aggregated; (c) per owner, account and company, who have thousands, one sorted union of moments and
outcomes, aggregated over windows that end at the moment; (d) the features as expressions of all that.

The dialect is what DuckDB and Spark share: no ASOF, no DISTINCT windows, no date arithmetic; instants are seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from features.spec import DAY, Aggregate, Column, Feature, Term

SOURCES: dict[str, tuple[str, ...]] = {
    "opening": (),
    "change": ("field", "old_value", "new_value", "old_number", "new_number"),
    "activity": ("type", "direction", "contact_id", "user_id", "duration_minutes", "is_first"),
    "contact": ("contact_id", "role", "is_first"),
}
"""The columns of a deal's dated rows by source, besides deal_id and moment; the relation is called like the source."""

PARTIES = {"owner": "owner_id", "account": "account_id"}
TABLE_OF = {"spine": "spine", "state": "state", "stage": "state", "owner": "owners", "account": "accounts"}


@dataclass(frozen=True)
class Inputs:
    """What the data have: columns by relation, and since when each source has rows.

    Attributes
    ----------
    columns : columns of the relations state, accounts, owners.
    since : epoch seconds of the first row of (source, field); an aggregate before it is unknown. Missing: no rows.
    """

    columns: Mapping[str, frozenset[str]]
    since: Mapping[tuple[str, str | None], float]


def compile_features(features: Iterable[Feature], inputs: Inputs) -> str:
    """The statement that computes the features for the relation `spine`, a column each, ordered by spine_row."""
    features = list(features)
    aggregates = _number(features)
    steps, joins = [_LAST_STATE], []
    for source in SOURCES:
        its = {a: name for a, name in aggregates.items() if (a.entity, a.source) == ("deal", source)}
        if its:
            steps.append(_deal_level(source, its))
            joins.append(f"LEFT JOIN {source}_level ON {source}_level.spine_row = located.spine_row")
    steps.append(_located(inputs))
    for party in (*PARTIES, "company"):
        its = {a: name for a, name in aggregates.items() if a.entity == party}
        if its:
            steps += _party_level(party, its)
            same = f"{party}_level.party = located.{party}_key AND {party}_level.moment = located.as_of"
            joins.append(f"LEFT JOIN {party}_level ON {same}")
    columns = [
        f"{_typed(declared, _render(declared.term, aggregates, inputs))} AS {declared.name}" for declared in features
    ]
    currency = "COALESCE(state.currency, '')" if "currency" in inputs.columns["state"] else "''"
    return f"""WITH {_listed(steps)}
SELECT
  {_listed(["located.spine_row", *columns])}
FROM located
JOIN spine ON spine.spine_row = located.spine_row
LEFT JOIN state ON state.state_row = located.last_state
LEFT JOIN rates ON rates.as_of = located.as_of AND rates.currency = {currency}
LEFT JOIN accounts ON accounts.account_id = located.account_key
LEFT JOIN owners ON owners.user_id = located.owner_key
{chr(10).join(joins)}
ORDER BY located.spine_row"""


def _listed(parts: Iterable[str]) -> str:
    return ",\n  ".join(parts)


def _typed(declared: Feature, value: str) -> str:
    return f"CAST({value} AS {'VARCHAR' if declared.kind == 'category' else 'DOUBLE'})"


def _number(features: list[Feature]) -> dict[Aggregate, str]:
    """A column name for every different aggregate of the features."""
    found: dict[Aggregate, str] = {}

    def walk(term: Term) -> None:
        if isinstance(term, Aggregate):
            found.setdefault(term, f"a{len(found)}")
        for part in term.parts:
            walk(part)

    for declared in features:
        walk(declared.term)
    return found


def _render(term: Term, aggregates: Mapping[Aggregate, str], inputs: Inputs) -> str:
    if isinstance(term, Aggregate):
        level = term.source if term.entity == "deal" else term.entity
        value = f"{level}_level.{aggregates[term]}"
        if term.entity != "deal" or term.source == "opening":
            return value
        since = inputs.since.get((term.source, term.field))
        # Before its first row a source says nothing: unknown, not zero.
        return "NULL" if since is None else f"CASE WHEN located.as_of >= {since!r} THEN {_filled(term, value)} END"
    if isinstance(term, Column):
        return _render_column(term, inputs)
    return term.template.format(*(_render(part, aggregates, inputs) for part in term.parts))


def _filled(aggregate: Aggregate, value: str) -> str:
    return value if aggregate.without_rows is None else f"COALESCE({value}, {aggregate.without_rows!r})"


def _render_column(column: Column, inputs: Inputs) -> str:
    if column.relation == "money":
        return "(state.amount * rates.rate_to_base)" if "amount" in inputs.columns["state"] else "NULL"
    table = TABLE_OF[column.relation]
    name = f"stage_{column.template}" if column.relation == "stage" else column.template
    known = table == "spine" or name in inputs.columns[table]
    return f'{table}."{name}"' if known else "NULL"


_LAST_STATE = (
    "last_state AS (SELECT spine.spine_row, MAX(state_row) AS last_state FROM spine"
    " JOIN state ON state.deal_id = spine.deal_id AND state.moment <= spine.as_of GROUP BY spine.spine_row)"
)


def _deal_level(source: str, aggregates: Mapping[Aggregate, str]) -> str:
    """Level (b): the rows of one source up to each moment of their deal, the moment itself included."""
    columns = ", ".join(f"{_of_rows_until(aggregate)} AS {name}" for aggregate, name in aggregates.items())
    return (
        f"{source}_level AS (SELECT spine_row, {columns} FROM spine"
        f" JOIN {source} ON {source}.deal_id = spine.deal_id AND {source}.moment <= spine.as_of GROUP BY spine_row)"
    )


def _of_rows_until(aggregate: Aggregate) -> str:
    window = () if aggregate.days is None else (f"moment >= as_of - {aggregate.days * DAY!r}",)
    conditions = " AND ".join((*aggregate.where, *window))
    return f"{aggregate.template} FILTER (WHERE {conditions})" if conditions else aggregate.template


def _located(inputs: Inputs) -> str:
    """The deals with the owner and account they had at the moment."""
    keys = [
        f"{f'state.{column}' if column in inputs.columns['state'] else 'CAST(NULL AS VARCHAR)'} AS {party}_key"
        for party, column in PARTIES.items()
    ]
    return (
        f"located AS (SELECT spine.spine_row, as_of, last_state, {', '.join(keys)}, 'all' AS company_key FROM spine"
        " LEFT JOIN last_state ON last_state.spine_row = spine.spine_row"
        " LEFT JOIN state ON state.state_row = last_state.last_state)"
    )


def _party_level(party: str, aggregates: Mapping[Aggregate, str]) -> list[str]:
    """Level (c): what had happened with all deals of an owner, an account or the company by each moment."""
    key = f"{party}_key"
    moments = (
        f"SELECT DISTINCT {key} AS party, as_of AS moment, 1 AS is_spine, CAST(NULL AS VARCHAR) AS kind,"
        " CAST(NULL AS DOUBLE) AS step, CAST(NULL AS DOUBLE) AS amount_base, CAST(NULL AS DOUBLE) AS days_open"
        f" FROM located WHERE {key} IS NOT NULL"
    )
    rows = (
        f"SELECT {party}, moment, 0, kind, step, amount_base, days_open FROM outcome"
        f" WHERE {party} IN (SELECT {key} FROM located WHERE {key} IS NOT NULL)"
    )
    columns = ", ".join(f"{_windowed(aggregate)} AS {name}" for aggregate, name in aggregates.items())
    return [
        f"{party}_events AS (\n  {moments}\n  UNION ALL {rows}\n)",
        f"{party}_level AS (SELECT * FROM (SELECT party, moment, is_spine, {columns} FROM {party}_events"
        f" {_windows(aggregates)}) AS windowed WHERE is_spine = 1)",
    ]


def _windowed(aggregate: Aggregate) -> str:
    conditions = " AND ".join(("is_spine = 0", *aggregate.where))
    return _filled(aggregate, f"{aggregate.template} FILTER (WHERE {conditions}) OVER {_window(aggregate.days)}")


def _window(days: float | None) -> str:
    return "life" if days is None else f"d{days:g}".replace(".", "_")


def _windows(aggregates: Iterable[Aggregate]) -> str:
    """One named window per length; ties in time are inside, so a row at the moment itself counts."""
    lengths = {None, *(aggregate.days for aggregate in aggregates)}
    named = [
        f"{_window(days)} AS (PARTITION BY party ORDER BY moment RANGE BETWEEN "
        f"{'UNBOUNDED' if days is None else repr(days * DAY)} PRECEDING AND CURRENT ROW)"
        for days in sorted(lengths, key=lambda days: days or 0.0)
    ]
    return "WINDOW " + ", ".join(named)
