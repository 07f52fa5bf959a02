"""From declarations to one SQL statement over a spine of (deal_id, as_of), the same for one deal now as for millions.

Four levels: (a) the dated rows of the spine's deals; (b) each moment of a deal joined to its rows up to then, of which
there are tens, and aggregated; (c) per owner, account, stage …, who have thousands, one sorted union of moments and
outcomes, aggregated over windows that end at the moment; (d) all of it side by side, each once, NULL where it is not
known, and the features as expressions of that.

The dialect is what DuckDB and Spark share: no ASOF, no DISTINCT windows, no date arithmetic; instants are seconds.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from features.inputs import PARTY_SOURCES, SOURCES, Inputs
from features.parties import PARTIES
from features.spec import DAY, Aggregate, Column, Deal, Feature, Term, number

TABLE_OF = {"spine": "spine", "state": "state", "stage": "state", "owner": "owners", "account": "accounts"}


def compile_features(features: Iterable[Feature], inputs: Inputs, *, given: Collection[str] = ()) -> str:
    """The statement that computes the features for the relation `spine`, a column each, ordered by spine_row.

    Parameters
    ----------
    given : parties whose level is there as a relation already, the result of `compile_level` on the same features for
        the moments of the spine; the others are worked out for the spine alone.
    """
    features = list(features)
    plan = _plan(features, inputs)
    steps = [_LAST_STATE]
    sources = [source for source in SOURCES if plan.of("deal", source)]
    steps += [_deal_level(source, plan.of("deal", source), plan) for source in sources]
    parties = [party for party in PARTIES if plan.of(party)]
    steps += [_located(parties, plan), _told_of_deals(sources, plan)]
    for party in parties:
        if party not in given:
            wanted = f"SELECT DISTINCT {party}_key AS party, as_of AS moment FROM located WHERE {party}_key IS NOT NULL"
            steps += _party_level(party, plan.of(party), wanted, inputs, only_wanted=True)
    steps += [*_told_of_parties(parties, plan), _known(plan)]
    columns = [
        f"{_typed(declared, _filled(declared.term, plan.name_of))} AS {quoted(declared.name)}" for declared in features
    ]
    return f"""WITH {_listed(steps)}
SELECT
  {_listed(["spine_row", *columns])}
FROM known
ORDER BY spine_row"""


def compile_level(features: Iterable[Feature], inputs: Inputs, party: str) -> str | None:
    """The statement that computes one party's level for all its keys at every moment of the relation `spine`.

    Returns
    -------
    A statement with columns party, moment and one per aggregate; None where no feature reads the party.
    """
    its = _plan(features, inputs).of(party)
    if not its:
        return None
    key = PARTIES[party].sql(PARTIES[party].relation, inputs.columns)
    keys = f"SELECT DISTINCT {key} AS party FROM {_rows_of(party)}"
    wanted = (
        f"SELECT party, as_of AS moment FROM ({keys}) AS found, (SELECT DISTINCT as_of FROM spine) AS moments"
        " WHERE party IS NOT NULL"
    )
    return f"WITH {_listed(_party_level(party, its, wanted, inputs, only_wanted=False))}\nSELECT * FROM {party}_level"


def quoted(name: str) -> str:
    """A name as an SQL identifier, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _listed(parts: Iterable[str]) -> str:
    return ",\n  ".join(parts)


def _typed(declared: Feature, value: str) -> str:
    return f"CAST({value} AS {'VARCHAR' if declared.kind == 'category' else 'DOUBLE'})"


@dataclass(frozen=True)
class _Plan:
    """A column name for every different aggregate and ready column that the features are made of."""

    inputs: Inputs
    aggregates: Mapping[Aggregate, str]
    columns: Mapping[Column, str]

    def name_of(self, term: Term) -> str:
        return self.aggregates[term] if isinstance(term, Aggregate) else self.columns[cast(Column, term)]

    def in_level(self, term: Term) -> str:
        assert isinstance(term, Aggregate)
        return f"{term.source}_level.{self.aggregates[term]}"

    def of(self, entity: str, source: str | None = None) -> dict[Aggregate, str]:
        """The aggregates of the deal's rows of one source, or of a party's."""
        return {a: name for a, name in self.aggregates.items() if a.entity == entity and source in (None, a.source)}


def _plan(features: Iterable[Feature], inputs: Inputs) -> _Plan:
    aggregates: dict[Aggregate, str] = {}
    columns: dict[Column, str] = {}
    for term in _parts_of(declared.term for declared in features):
        if isinstance(term, Aggregate):
            aggregates.setdefault(term, f"a{len(aggregates)}")
            if term.entity == "deal" and term.recorded:
                # What it takes to say whether it is known.
                aggregates.setdefault(_CREATED_AT, f"a{len(aggregates)}")
                columns.setdefault(_MAILBOX_SINCE, f"c{len(columns)}")
        elif isinstance(term, Column):
            columns.setdefault(term, f"c{len(columns)}")
    return _Plan(inputs, aggregates, columns)


def _parts_of(terms: Iterable[Term]) -> Iterable[Term]:
    for term in terms:
        yield term
        yield from _parts_of(term.parts)


def _filled(term: Term, leaf: Callable[[Term], str]) -> str:
    """A term's SQL, its aggregates and ready columns as `leaf` writes them."""
    if isinstance(term, Aggregate | Column):
        return leaf(term)
    return term.template.format(*(_filled(part, leaf) for part in term.parts))


def _told_of_deals(sources: Iterable[str], plan: _Plan) -> str:
    """The levels of the deals' rows side by side, apart from all else: what a join carries along is what it costs."""
    columns = [name for source in sources for name in plan.of("deal", source).values()]
    joins = [f" LEFT JOIN {source}_level ON {source}_level.spine_row = spine.spine_row" for source in sources]
    return f"deals_told AS (SELECT {', '.join(['spine.spine_row', *columns])} FROM spine{''.join(joins)})"


def _told_of_parties(parties: Sequence[str], plan: _Plan) -> list[str]:
    """The same of the parties' levels."""
    keys = [f"{party}_key" for party in parties]
    columns = [name for party in parties for name in plan.of(party).values()]
    joins = [
        f" LEFT JOIN {party}_level ON {party}_level.party = keyed.{party}_key AND {party}_level.moment = keyed.as_of"
        for party in parties
    ]
    return [
        f"keyed AS (SELECT {', '.join(['spine_row', 'as_of', *keys])} FROM located)",
        f"parties_told AS (SELECT {', '.join(['keyed.spine_row', *columns])} FROM keyed{''.join(joins)})",
    ]


def _known(plan: _Plan) -> str:
    """Every ready column and aggregate once, the latter NULL where it is not known, however many features read it."""
    columns = [f"located.{name}" for name in plan.columns.values()]
    values = [f"{_if_known(aggregate, plan)} AS {name}" for aggregate, name in plan.aggregates.items()]
    joins = [f" LEFT JOIN {told} ON {told}.spine_row = located.spine_row" for told in ("deals_told", "parties_told")]
    return f"known AS (SELECT {_listed(['located.spine_row', *columns, *values])}\n  FROM located{''.join(joins)})"


def _if_known(term: Term, plan: _Plan) -> str:
    assert isinstance(term, Aggregate)
    value = f"{'deals' if term.entity == 'deal' else 'parties'}_told.{plan.aggregates[term]}"
    if term.without_rows is not None:
        value = f"COALESCE({value}, {number(term.without_rows)})"
    known = _is_known(term, plan)
    return value if known is None else "NULL" if known == "NULL" else f"CASE WHEN {known} THEN {value} END"


def _is_known(aggregate: Aggregate, plan: _Plan) -> str | None:
    """When the aggregate says something: all its rows may have been recorded. None: always; NULL: never."""
    if aggregate.entity != "deal":
        return _is_known_of_party(aggregate, plan)
    if not aggregate.recorded:
        return None
    begun = [plan.inputs.since.get(source) for source in aggregate.recorded]
    if None in begun:
        return "NULL"
    start = "located.as_of"
    if aggregate.parts:
        start = _filled(aggregate.parts[0], partial(_if_known, plan=plan))
    elif aggregate.without_rows is not None:
        # Rows cannot be older than the deal, whatever the window.
        start = f"deals_told.{plan.aggregates[_CREATED_AT]}"
        if aggregate.days is not None:
            start = f"GREATEST({start}, located.as_of - {number(aggregate.days * DAY)})"
    known = f"{start} >= {number(max(at for at in begun if at is not None))}"
    if aggregate.source != "activity" or not plan.inputs.mailboxes:
        return known
    return f"{known} AND (located.owner_id IS NULL OR located.{plan.columns[_MAILBOX_SINCE]} <= {start})"


def _is_known_of_party(aggregate: Aggregate, plan: _Plan) -> str:
    """Whose it is must be known, and a window must not reach back before the first deal of all."""
    known = f"located.{aggregate.entity}_key IS NOT NULL"
    if aggregate.days is None:
        return known
    begun = plan.inputs.since.get("outcome")
    if begun is None:
        return "NULL"
    return f"{known} AND located.as_of - {number(aggregate.days * DAY)} >= {number(begun)}"


assert isinstance(Deal.created_at, Aggregate)
_CREATED_AT: Aggregate = Deal.created_at
_MAILBOX_SINCE = Column("activity_from", relation="owner")


def _column(column: Column, inputs: Inputs) -> str:
    """Where a ready column stands; NULL where the data do not have it."""
    if column.relation == "money":
        return "(state.amount * rates.rate_to_base)" if "amount" in inputs.columns["state"] else "CAST(NULL AS DOUBLE)"
    if column.relation == "custom":
        name = inputs.custom.get(column.template)
        return "NULL" if name is None else f"state.{name}"
    table = TABLE_OF[column.relation]
    name = f"stage_{column.template}" if column.relation == "stage" else column.template
    known = table == "spine" or name in inputs.columns[table]
    return f"{table}.{quoted(name)}" if known else "NULL"


_LAST_STATE = (
    "last_state AS (SELECT spine.spine_row, MAX(state_row) AS last_state FROM spine"
    " JOIN state ON state.deal_id = spine.deal_id AND state.moment <= spine.as_of GROUP BY spine.spine_row)"
)


def _deal_level(source: str, its: Mapping[Aggregate, str], plan: _Plan) -> str:
    """Level (b): the rows of one source up to each moment of their deal, the moment itself included."""
    columns = ", ".join(f"{_of_rows_until(aggregate, plan)} AS {name}" for aggregate, name in its.items())
    needed = _parts_of(part for aggregate in its for part in aggregate.parts)
    earlier = dict.fromkeys(part.source for part in needed if isinstance(part, Aggregate))
    joins = "".join(f" LEFT JOIN {one}_level ON {one}_level.spine_row = spine.spine_row" for one in earlier)
    return (
        f"{source}_level AS (SELECT spine.spine_row, {columns} FROM spine"
        f" JOIN {source} ON {source}.deal_id = spine.deal_id AND {source}.moment <= spine.as_of{joins}"
        " GROUP BY spine.spine_row)"
    )


def _of_rows_until(aggregate: Aggregate, plan: _Plan) -> str:
    conditions = list(aggregate.where)
    if aggregate.days is not None:
        conditions.append(f"moment >= as_of - {number(aggregate.days * DAY)}")
    # An instant as it stands in the levels before; whether it is known is said where it is shown.
    conditions += [f"moment > {_filled(part, plan.in_level)}" for part in aggregate.parts]
    return _only_where(aggregate.template, conditions)


def _only_where(template: str, conditions: Iterable[str]) -> str:
    """An aggregate over the rows for which all conditions hold; they stand in its argument.

    Behind it, as FILTER, they cost DuckDB time that grows with the square of the number of aggregates (and, in windows,
    of rows).
    """
    where = " AND ".join(conditions)
    if not where:
        return template
    function, arguments = template.removesuffix(")").split("(", 1)
    argument, *others = arguments.split(", ")
    distinct = "DISTINCT " if argument.startswith("DISTINCT ") else ""
    counted = "1" if argument == "*" else argument.removeprefix(distinct)
    return f"{function}({', '.join([f'{distinct}CASE WHEN {where} THEN {counted} END', *others])})"


def _located(parties: Iterable[str], plan: _Plan) -> str:
    """The deals as they stood at the moment, with whatever they had in common with others."""
    known = plan.inputs.columns
    owner, account = (PARTIES[party].sql("state", known) for party in ("owner", "account"))
    keys = [f"{PARTIES[party].sql('state', known)} AS {party}_key" for party in parties]
    columns = [f"{_column(column, plan.inputs)} AS {name}" for column, name in plan.columns.items()]
    currency = "COALESCE(state.currency, '')" if "currency" in known["state"] else "''"
    return (
        f"located AS (SELECT {_listed(['spine.spine_row, spine.as_of', f'{owner} AS owner_id', *keys, *columns])}"
        "\n  FROM spine"
        " LEFT JOIN last_state ON last_state.spine_row = spine.spine_row"
        " LEFT JOIN state ON state.state_row = last_state.last_state"
        f" LEFT JOIN rates ON rates.as_of = spine.as_of AND rates.currency = {currency}"
        f" LEFT JOIN owners ON owners.user_id = {owner}"
        f" LEFT JOIN accounts ON accounts.account_id = {account})"
    )


def _rows_of(party: str) -> str:
    """A party's rows, with the account they belong to where the key needs it."""
    key = PARTIES[party]
    joined = f" LEFT JOIN accounts ON accounts.account_id = {key.relation}.account_id"
    return key.relation + (joined if key.needs_account() else "")


def _party_level(
    party: str, aggregates: Mapping[Aggregate, str], wanted: str, inputs: Inputs, *, only_wanted: bool
) -> list[str]:
    """Level (c): what had happened with all deals of an owner, an account, a stage … by each wanted moment."""
    key = PARTIES[party]
    columns = PARTY_SOURCES[key.relation]
    empty = ", ".join(
        f"CAST(NULL AS {'DOUBLE' if place else 'VARCHAR'}) AS {name}" for place, name in enumerate(columns)
    )
    rows = (
        f"SELECT {key.sql(key.relation, inputs.columns)} AS party, {key.relation}.moment AS moment, 0 AS is_spine,"
        f" {', '.join(f'{key.relation}.{name}' for name in columns)} FROM {_rows_of(party)}"
    )
    if only_wanted:
        rows = f"SELECT * FROM ({rows}) AS every WHERE party IN (SELECT party FROM {party}_wanted)"
    totals = ", ".join(f"{_windowed(aggregate, inputs)} AS {name}" for aggregate, name in aggregates.items())
    return [
        f"{party}_wanted AS ({wanted})",
        f"{party}_events AS (SELECT party, moment, 1 AS is_spine, {empty} FROM {party}_wanted UNION ALL {rows})",
        f"{party}_level AS (SELECT * FROM (SELECT party, moment, is_spine, {totals} FROM {party}_events"
        f" {_windows(aggregates)}) AS windowed WHERE is_spine = 1)",
    ]


def _windowed(aggregate: Aggregate, inputs: Inputs) -> str:
    """The aggregate over its window."""
    begun = [inputs.since.get(source) for source in aggregate.recorded]
    followed = ["FALSE" if at is None else f"created >= {number(at)}" for at in begun]
    conditions = ("is_spine = 0", *aggregate.where, *followed)
    return f"{_only_where(aggregate.template, conditions)} OVER {_window(aggregate.days)}"


def _window(days: float | None) -> str:
    return "life" if days is None else f"d{days:g}".replace(".", "_")


def _windows(aggregates: Iterable[Aggregate]) -> str:
    """One named window per length; ties in time are inside, so a row at the moment itself counts."""
    lengths = {None, *(aggregate.days for aggregate in aggregates)}
    named = [
        f"{_window(days)} AS (PARTITION BY party ORDER BY moment RANGE BETWEEN "
        f"{'UNBOUNDED' if days is None else number(days * DAY)} PRECEDING AND CURRENT ROW)"
        for days in sorted(lengths, key=lambda days: days or 0.0)
    ]
    return "WINDOW " + ", ".join(named)
