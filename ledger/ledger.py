"""The ledger: every score and forecast as it was published at the time, written once and never changed.

`published` was said then; `replayed` was computed later for a past moment. Every read names the one it wants: they are
never pooled. Publishing the same moment twice keeps both, and the later one stands.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd
from sqlalchemy import Connection, Select, and_, func, select

from ledger.audit import Audit
from ledger.database import open_engine, reading, writing
from ledger.inbox import Inbox
from ledger.keys import KeyRing
from ledger.people import People
from ledger.tables import Day, UtcInstant, forecast_entry, publication, score_entry
from ledger.visits import Visits

Kind = Literal["scores", "forecast"]
Basis = Literal["published", "replayed"]

FORECAST_KEY = ("scope", "node_type", "node_id")
FORECAST_TEXTS = ("parent_type", "parent_id", "call_user_id", "call_submitted_at")
FORECAST_NUMBERS = (
    ("won_to_date", "open_pipeline", "not_yet_created", "mean", "p05", "p10", "p25", "p50", "p75", "p90", "p95")
    + ("call_commit", "call_most_likely", "call_best_case", "call_rolled_up", "quota", "probability_of_quota")
)  # fmt: skip


@dataclass(frozen=True)
class Publication:
    """The head of one publication: what was said, for which moment, when, and by which model on which data.

    `period_start` and `period_end` (days, end exclusive) and `publication_id` are filled in when it is written.
    """

    kind: Kind
    basis: Basis
    as_of: pd.Timestamp
    published_at: pd.Timestamp
    model_version: str
    data_version: str
    period_start: pd.Timestamp | None = None
    period_end: pd.Timestamp | None = None
    publication_id: int | None = None


class Ledger(KeyRing, Visits, Audit, Inbox, People):
    """What was published, what systems and people told, and the keys of the service, in one database."""

    def publish_scores(self, head: Publication, scores: pd.DataFrame) -> Publication:
        """Write the contract's score rows, all or none, and return the head with its number.

        Raises
        ------
        ValueError
            A row belongs to another moment, period, model or data version than the head says.
        """
        columns = {c.name: written(scores[c.name]) for c in score_entry.columns if c.name in scores}
        columns["reasons"] = [json.loads(v) if isinstance(v, str) else list(v) for v in scores["reasons"]]
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return self.write(head, "scores", scores, rows)

    def publish_forecast(self, head: Publication, nodes: pd.DataFrame) -> Publication:
        """Write the contract's forecast rows, one entry per known quantity, and return the head with its number.

        Names of nodes are not kept: a rep's name belongs to the CRM, where it can be erased.
        """
        return self.write(head, "forecast", nodes, forecast_entries(nodes))

    def write(self, head: Publication, kind: Kind, frame: pd.DataFrame, rows: list[dict[str, Any]]) -> Publication:
        """One publication and its entries in one transaction."""
        head = filled_head(head, kind, frame)
        entries = score_entry if kind == "scores" else forecast_entry
        with writing(self.engine) as connection:
            said = {k: v for k, v in vars(head).items() if k != "publication_id"}
            number = connection.execute(
                publication.insert().values(said).returning(publication.c.publication_id)
            ).scalar()
            if rows:
                connection.execute(entries.insert(), [{"publication_id": number, **row} for row in rows])
        return replace(head, publication_id=number)

    def last_publication(self) -> int | None:
        """The number of the publication written last, None before the first."""
        with reading(self.engine) as connection:
            return connection.execute(select(func.max(publication.c.publication_id))).scalar()

    def publications(
        self,
        kind: Kind,
        *,
        basis: Basis,
        period_start: pd.Timestamp | None = None,
        as_of: pd.Timestamp | None = None,
        at: pd.Timestamp | None = None,
    ) -> list[Publication]:
        """Heads, the one that stands last.

        Parameters
        ----------
        basis : `published`, ordered by when it was said; `replayed`, ordered by the moment it is for.
        period_start, as_of : only of the period that starts on this day, only for this moment.
        at : only what had been said by then (published), or is for a moment up to then (replayed).
        """
        order = publication.c.published_at if basis == "published" else publication.c.as_of
        query = select(publication).where(publication.c.kind == kind, publication.c.basis == basis)
        if period_start is not None:
            query = query.where(publication.c.period_start == period_start.date())
        if as_of is not None:
            query = query.where(publication.c.as_of == as_of)
        if at is not None:
            query = query.where(order <= at)
        query = query.order_by(order, publication.c.published_at, publication.c.publication_id)
        with reading(self.engine) as connection:
            return [head_of(row) for row in connection.execute(query).mappings()]

    def latest_scores(
        self, at: pd.Timestamp | None = None, *, basis: Basis = "published"
    ) -> tuple[Publication, pd.DataFrame] | None:
        """The scores that stand at a moment (None: now), or None if nothing had been published."""
        heads = self.publications("scores", basis=basis, at=at)
        return None if not heads else (heads[-1], self.scores_of(heads[-1]))

    def latest_forecast(
        self,
        period_start: pd.Timestamp | None = None,
        *,
        at: pd.Timestamp | None = None,
        basis: Basis = "published",
    ) -> tuple[Publication, pd.DataFrame] | None:
        """The forecast that stands at a moment for the period (None: any), or None. `node_name` is not in it."""
        heads = self.publications("forecast", basis=basis, period_start=period_start, at=at)
        return None if not heads else (heads[-1], self.nodes_of(heads[-1]))

    def scores_of(self, head: Publication) -> pd.DataFrame:
        """The score rows of one publication, with the contract's columns, in order of deal_id."""
        query = select(score_entry).where(score_entry.c.publication_id == head.publication_id)
        with reading(self.engine) as connection:
            rows = read(connection, query.order_by(score_entry.c.deal_id))
        return with_head(rows.drop(columns="publication_id"), head, after=("deal_id",))

    def nodes_of(self, head: Publication) -> pd.DataFrame:
        """The forecast rows of one publication, with the contract's columns but `node_name`."""
        query = select(forecast_entry).where(forecast_entry.c.publication_id == head.publication_id)
        with reading(self.engine) as connection:
            entries = read(connection, query)
        numbers = entries.pivot(index=list(FORECAST_KEY), columns="quantity", values="value")
        texts = entries.pivot(index=list(FORECAST_KEY), columns="quantity", values="value_text")
        nodes = pd.concat(
            [
                texts.reindex(columns=FORECAST_TEXTS[:2]).astype("str"),
                numbers.reindex(columns=FORECAST_NUMBERS[:-3]).astype("float64"),
                texts.reindex(columns=FORECAST_TEXTS[2:]).astype("str"),
                numbers.reindex(columns=FORECAST_NUMBERS[-3:]).astype("float64"),
            ],
            axis=1,
        ).reset_index()
        nodes["call_submitted_at"] = pd.to_datetime(nodes["call_submitted_at"], utc=True).astype("datetime64[us, UTC]")
        return with_head(nodes, head, after=())

    def node_history(
        self,
        node_type: str,
        node_id: str,
        *,
        basis: Basis,
        period_start: pd.Timestamp,
        at: pd.Timestamp,
        scope: str = "all",
    ) -> pd.DataFrame:
        """What was said of one node of a period by a moment, one row per as-of moment: of several the last one said.

        Returns
        -------
        DataFrame of as_of, published_at, model_version and the forecast row's numbers, oldest moment first.
        """
        said = and_(
            publication.c.publication_id == forecast_entry.c.publication_id,
            publication.c.kind == "forecast",
            publication.c.basis == basis,
            publication.c.period_start == period_start.date(),
        )
        head = ("publication_id", "as_of", "published_at", "model_version")
        query = select(*(publication.c[name] for name in head), forecast_entry.c.quantity, forecast_entry.c.value)
        query = query.join(publication, said).where(
            forecast_entry.c.scope == scope,
            forecast_entry.c.node_type == node_type,
            forecast_entry.c.node_id == node_id,
            (publication.c.published_at if basis == "published" else publication.c.as_of) <= at,
        )
        with reading(self.engine) as connection:
            entries = read(connection, query)
        rows = entries.pivot(index=list(head), columns="quantity", values="value")
        rows = rows.reindex(columns=list(FORECAST_NUMBERS)).astype("float64").reset_index().rename_axis(columns=None)
        rows = rows.sort_values(["as_of", "published_at", "publication_id"], kind="stable")
        return rows.drop_duplicates("as_of", keep="last", ignore_index=True).drop(columns="publication_id")

    def period_chances(self, publication_ids: Sequence[int]) -> pd.DataFrame:
        """The chances to be won in the period that these publications told.

        Returns
        -------
        DataFrame of deal_id, as_of, period_start, said (0..1), expected_amount (base currency, if won).
        """
        columns = (score_entry.c.deal_id, publication.c.as_of, publication.c.period_start)
        query = select(*columns, score_entry.c.period_win_probability.label("said"), score_entry.c.expected_amount)
        query = query.join(publication, publication.c.publication_id == score_entry.c.publication_id)
        query = query.where(publication.c.publication_id.in_(list(publication_ids)))
        with reading(self.engine) as connection:
            return read(connection, query)

    def deal_said(self, deal_id: str, *, period_start: pd.Timestamp, at: pd.Timestamp) -> float:
        """What the last score of a deal published by a moment expected of it for a period, in base currency, or NaN."""
        said = and_(publication.c.publication_id == score_entry.c.publication_id, publication.c.basis == "published")
        query = select(score_entry.c.period_win_probability * score_entry.c.expected_amount).join(publication, said)
        query = query.where(
            score_entry.c.deal_id == deal_id,
            publication.c.period_start == period_start.date(),
            publication.c.published_at <= at,
        )
        query = query.order_by(publication.c.published_at.desc(), publication.c.publication_id.desc()).limit(1)
        with reading(self.engine) as connection:
            found = connection.execute(query).scalar()
        return float("nan") if found is None else float(found)

    def scores_published_before(self, moment: pd.Timestamp, deal_ids: Sequence[str] | None = None) -> pd.DataFrame:
        """For each deal the last published score whose as-of moment is `moment` or earlier.

        Returns
        -------
        DataFrame of deal_id, win_probability, as_of, published_at, model_version; a deal never scored by then has no
        row.
        """
        newest_first = [publication.c[name].desc() for name in ("as_of", "published_at", "publication_id")]
        place = func.row_number().over(partition_by=score_entry.c.deal_id, order_by=newest_first)
        said = self.score_entries().add_columns(place.label("place")).where(publication.c.as_of <= moment)
        if deal_ids is not None:
            said = said.where(score_entry.c.deal_id.in_(list(deal_ids)))
        ranked = said.subquery()
        query = select(ranked).where(ranked.c.place == 1).order_by(ranked.c.deal_id)
        with reading(self.engine) as connection:
            return read(connection, query)[["deal_id", "win_probability", "as_of", "published_at", "model_version"]]

    def score_history(self, deal_id: str, *, basis: Basis = "published") -> pd.DataFrame:
        """Every score of one deal that was published (or, the other basis, replayed), oldest first.

        Returns
        -------
        DataFrame of as_of, published_at, win_probability, period_win_probability, model_version.
        """
        query = self.score_entries(basis).where(score_entry.c.deal_id == deal_id)
        query = query.order_by(publication.c.published_at, publication.c.publication_id)
        with reading(self.engine) as connection:
            return read(connection, query).drop(columns="deal_id")

    def score_entries(self, basis: Basis = "published") -> Select[Any]:
        """Score entries of one basis, beside the head's moments."""
        said = and_(publication.c.publication_id == score_entry.c.publication_id, publication.c.basis == basis)
        return select(
            score_entry.c.deal_id,
            publication.c.as_of,
            publication.c.published_at,
            score_entry.c.win_probability,
            score_entry.c.period_win_probability,
            publication.c.model_version,
        ).join(publication, said)


def open_ledger(url: str) -> Ledger:
    """Open the ledger at a URL (`sqlite:///FILE`, `postgresql://USER@HOST/NAME`), its tables created and up to date.

    Raises
    ------
    LedgerError
        The URL names another kind of database.
    LedgerUnavailable
        The database cannot be opened.
    """
    return Ledger(open_engine(url))


def filled_head(head: Publication, kind: Kind, frame: pd.DataFrame) -> Publication:
    """The head with the period of its rows; rows that belong under another head are a mistake of the caller."""
    if head.kind != kind:
        raise ValueError(f"these rows are {kind}, the head says {head.kind}")
    if frame.empty:
        return head
    start, end = (pd.Timestamp(frame[name].iloc[0]) for name in ("period_start", "period_end"))
    head = replace(head, period_start=start, period_end=end)
    for name in ("as_of", "model_version", "data_version"):
        if not (frame[name] == getattr(head, name)).all():
            raise ValueError(f"{name}: every row must be as the head says, {getattr(head, name)}")
    return head


def forecast_entries(nodes: pd.DataFrame) -> list[dict[str, Any]]:
    """Forecast rows as entries: one for each known quantity of each node."""
    keys = [dict(zip(FORECAST_KEY, key, strict=True)) for key in zip(*(nodes[n] for n in FORECAST_KEY), strict=True)]
    entries = []
    for quantity in (name for name in FORECAST_NUMBERS + FORECAST_TEXTS if name in nodes):
        is_text = quantity in FORECAST_TEXTS
        for key, known in zip(keys, written(nodes[quantity]), strict=True):
            if known is not None:
                value, text = (None, text_of(known)) if is_text else (float(known), None)
                entries.append({**key, "quantity": quantity, "value": value, "value_text": text})
    return entries


def head_of(row: Any) -> Publication:
    """A stored head, its moments as Timestamps."""
    moments = ("as_of", "published_at", "period_start", "period_end")
    return Publication(**{k: pd.Timestamp(v) if k in moments and v is not None else v for k, v in row.items()})


def with_head(rows: pd.DataFrame, head: Publication, *, after: tuple[str, ...]) -> pd.DataFrame:
    """Rows with the head's moment and period in front (after `after`) and its versions at the end."""
    front = {"as_of": head.as_of, "period_start": head.period_start, "period_end": head.period_end}
    for place, (name, value) in enumerate(front.items(), start=len(after)):
        kind = "datetime64[us, UTC]" if name == "as_of" else "datetime64[us]"
        rows.insert(place, name, pd.Series(value, index=rows.index, dtype=kind))
    versions = {"model_version": head.model_version, "data_version": head.data_version}
    return rows.assign(**{name: pd.Series(value, index=rows.index, dtype="str") for name, value in versions.items()})


def read(connection: Connection, query: Select[Any]) -> pd.DataFrame:
    """The rows of a query with the dtypes every frame has: text `str`, instants UTC, days naive, numbers float64."""
    rows = pd.DataFrame(connection.execute(query).all(), columns=[c.name for c in query.selected_columns])
    for column in query.selected_columns:
        if isinstance(column.type, UtcInstant):
            rows[column.name] = pd.to_datetime(rows[column.name], utc=True).astype("datetime64[us, UTC]")
        elif isinstance(column.type, Day):
            rows[column.name] = pd.to_datetime(rows[column.name]).astype("datetime64[us]")
        elif column.type.python_type is str:
            rows[column.name] = rows[column.name].astype("str")
        elif column.type.python_type is float:
            rows[column.name] = rows[column.name].astype("float64")
    return rows


def written(values: pd.Series) -> list[Any]:
    """Values as the database takes them: unknown is None."""
    return values.astype(object).where(values.notna(), None).tolist()


def text_of(value: Any) -> str:
    """A quantity that is not a number, as text; instants in ISO 8601."""
    return value.isoformat() if isinstance(value, pd.Timestamp) else str(value)
