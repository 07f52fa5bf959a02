"""From declarations to one SQL statement over a spine of (deal_id, as_of), the same for one deal now as for millions of snapshots.

Four levels: (a) the dated rows of the spine's deals; (b) those rows and the spine in one sorted union per deal, every
aggregate a window over it that ends at the as-of moment, spine rows kept; (c) the same per owner, account and company, over
the outcomes of all their deals; (d) the features as expressions of all that.

The dialect is what DuckDB and Spark share: no ASOF, no DISTINCT windows, no date arithmetic; instants are epoch seconds.
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
"""The columns of a deal's dated rows by source; each has deal_id and at besides, and its relation is called like the source."""

COLUMN_TYPES = {
    "field": "VARCHAR",
    "old_value": "VARCHAR",
    "new_value": "VARCHAR",
    "old_number": "DOUBLE",
    "new_number": "DOUBLE",
    "type": "VARCHAR",
    "direction": "VARCHAR",
    "contact_id": "VARCHAR",
    "user_id": "VARCHAR",
    "duration_minutes": "DOUBLE",
    "is_first": "DOUBLE",
    "role": "VARCHAR",
}
PARTIES = {"owner": "state.owner_id", "account": "state.account_id", "company": "'all'"}
TABLE_OF = {"spine": "spine", "state": "state", "stage": "state", "owner": "owners", "account": "accounts"}


@dataclass(frozen=True)
class Inputs:
    """What the data have: columns by relation, and since when each source has rows.

    Attributes
    ----------
    columns : columns of the relations state, accounts, owners.
    since : epoch seconds of the first row of (source, field); an aggregate before it is unknown. Missing: no rows at all.
    """

    columns: Mapping[str, frozenset[str]]
    since: Mapping[tuple[str, str | None], float]


def compile_features(features: Iterable[Feature], inputs: Inputs) -> str:
    """The statement that computes the features for the rows of the relation `spine`, one column each, ordered by spine_row."""
    features = list(features)
    aggregates = _number(features)
    levels = {
        entity: {a: name for a, name in aggregates.items() if a.entity == entity} for entity in ("deal", *PARTIES)
    }
    parties = [entity for entity in PARTIES if levels[entity]]
    rendered = ",\n  ".join(
        f"CAST({_render(declared.term, aggregates, inputs)} AS {'VARCHAR' if declared.kind == 'category' else 'DOUBLE'})"
        f" AS {declared.name}"
        for declared in features
    )
    parts = [_deal_events(levels["deal"]), _deal_level(levels["deal"]), _located(inputs)]
    parts += [part for entity in parties for part in _party_level(entity, levels[entity])]
    steps = ",\n".join(parts)
    joins = "\n".join(
        f"LEFT JOIN {entity}_level ON {entity}_level.party = located.{entity}_key AND {entity}_level.moment = located.as_of"
        for entity in parties
    )
    currency = "COALESCE(state.currency, '')" if "currency" in inputs.columns["state"] else "''"
    return f"""WITH {steps}
SELECT
  located.spine_row,
  {rendered}
FROM located
JOIN spine ON spine.spine_row = located.spine_row
LEFT JOIN state ON state.state_row = located.last_state
LEFT JOIN rates ON rates.as_of = located.as_of AND rates.currency = {currency}
LEFT JOIN accounts ON accounts.account_id = located.account_key
LEFT JOIN owners ON owners.user_id = located.owner_key
{joins}
ORDER BY located.spine_row"""


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
        name = aggregates[term]
        if term.entity != "deal":
            return f"{term.entity}_level.{name}"
        if term.source == "opening":
            return f"located.{name}"
        since = inputs.since.get((term.source, term.field))
        # Before its first row a source says nothing: unknown, not zero.
        return "NULL" if since is None else f"CASE WHEN located.as_of >= {since!r} THEN located.{name} END"
    if isinstance(term, Column):
        return _render_column(term, inputs)
    return term.template.format(*(_render(part, aggregates, inputs) for part in term.parts))


def _render_column(column: Column, inputs: Inputs) -> str:
    if column.relation == "money":
        return "(state.amount * rates.rate_to_base)" if "amount" in inputs.columns["state"] else "NULL"
    table = TABLE_OF[column.relation]
    name = f"stage_{column.template}" if column.relation == "stage" else column.template
    known = table == "spine" or name in inputs.columns[table]
    return f'{table}."{name}"' if known else "NULL"


def _deal_events(aggregates: Mapping[Aggregate, str]) -> str:
    """Level (a): the spine's rows, the states and the sources in use, with the union of their columns."""
    used = sorted({aggregate.source for aggregate in aggregates})
    columns = list(dict.fromkeys(column for source in used for column in SOURCES[source]))

    def blank(present: tuple[str, ...]) -> str:
        return "".join(
            f", {name}" if name in present else f", CAST(NULL AS {COLUMN_TYPES[name]}) AS {name}" for name in columns
        )

    ours = "deal_id IN (SELECT deal_id FROM spine)"
    none = "CAST(NULL AS BIGINT)"
    parts = [
        f"SELECT deal_id, as_of AS moment, 'spine' AS source, spine_row, {none} AS state_row{blank(())} FROM spine",
        f"SELECT deal_id, moment, 'state', {none}, state_row{blank(())} FROM state WHERE {ours}",
    ]
    parts += [
        f"SELECT deal_id, moment, '{name}', {none}, {none}{blank(SOURCES[name])} FROM {name} WHERE {ours}"
        for name in used
    ]
    return "deal_events AS (\n  {}\n)".format("\n  UNION ALL ".join(parts))


def _deal_level(aggregates: Mapping[Aggregate, str]) -> str:
    """Level (b): every aggregate as a window that ends at the spine row's moment."""
    columns = [f"MAX(state_row) OVER {_window(None)} AS last_state"] + [
        f"{_windowed(aggregate, f'source = {aggregate.source!r}')} AS {name}" for aggregate, name in aggregates.items()
    ]
    return (
        f"deal_level AS (SELECT * FROM (SELECT source, spine_row, deal_id, moment AS as_of, {', '.join(columns)}"
        f" FROM deal_events {_windows('deal_id', aggregates)}) AS windowed WHERE source = 'spine')"
    )


def _located(inputs: Inputs) -> str:
    """The deals with the owner and account they had at the moment."""
    keys = ", ".join(
        f"{key if entity == 'company' or key.split('.')[1] in inputs.columns['state'] else 'CAST(NULL AS VARCHAR)'}"
        f" AS {entity}_key"
        for entity, key in PARTIES.items()
    )
    return (
        f"located AS (SELECT deal_level.*, {keys} FROM deal_level"
        " LEFT JOIN state ON state.state_row = deal_level.last_state)"
    )


def _party_level(entity: str, aggregates: Mapping[Aggregate, str]) -> list[str]:
    """Level (c): what had happened with all deals of an owner, an account or the company by each moment of the spine."""
    key = f"{entity}_key"
    moments = (
        f"SELECT DISTINCT {key} AS party, as_of AS moment, 1 AS is_spine, CAST(NULL AS VARCHAR) AS kind,"
        " CAST(NULL AS DOUBLE) AS step, CAST(NULL AS DOUBLE) AS amount_base, CAST(NULL AS DOUBLE) AS days_open"
        f" FROM located WHERE {key} IS NOT NULL"
    )
    rows = (
        f"SELECT {entity}, moment, 0, kind, step, amount_base, days_open FROM outcome"
        f" WHERE {entity} IN (SELECT {key} FROM located WHERE {key} IS NOT NULL)"
    )
    columns = ", ".join(f"{_windowed(aggregate, 'is_spine = 0')} AS {name}" for aggregate, name in aggregates.items())
    return [
        f"{entity}_events AS (\n  {moments}\n  UNION ALL {rows}\n)",
        f"{entity}_level AS (SELECT * FROM (SELECT party, moment, is_spine, {columns} FROM {entity}_events"
        f" {_windows('party', aggregates)}) AS windowed WHERE is_spine = 1)",
    ]


def _windowed(aggregate: Aggregate, of_source: str) -> str:
    conditions = " AND ".join((of_source, *aggregate.where))
    value = f"{aggregate.template} FILTER (WHERE {conditions}) OVER {_window(aggregate.days)}"
    return value if aggregate.without_rows is None else f"COALESCE({value}, {aggregate.without_rows!r})"


def _window(days: float | None) -> str:
    return "life" if days is None else f"d{days:g}".replace(".", "_")


def _windows(key: str, aggregates: Iterable[Aggregate]) -> str:
    """One named window per length; ties in time are inside, so a row at the moment itself counts."""
    lengths = {None, *(aggregate.days for aggregate in aggregates)}
    named = [
        f"{_window(days)} AS (PARTITION BY {key} ORDER BY moment RANGE BETWEEN "
        f"{'UNBOUNDED' if days is None else repr(days * DAY)} PRECEDING AND CURRENT ROW)"
        for days in sorted(lengths, key=lambda days: days or 0.0)
    ]
    return "WINDOW " + ", ".join(named)
