"""What the service answers from: one data version scored by one champion, in memory, replaced as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from crm.bookings import bookings
from crm.calendar import Period
from crm.hierarchy import org_chart
from crm.history import DealHistory, open_deals
from crm.kept import Kept
from crm.money import RateBook
from crm.plain import to_plain
from crm.store import read_tables
from crm.tables import CrmTables
from crm.versions import current_version
from features.build import build_features
from features.catalogue import BY_NAME
from features.sources import FeatureSources, build_sources
from ledger.ledger import Ledger
from models.bundle import Bundle, bundle_for, model_card
from models.forecast_look import chances_beyond_scores
from models.forecaster import DrawnForecast, draw_forecast, forecast_nodes
from models.holdout import Holdout, with_limit
from models.moves import Moves, moves_since
from models.scorer import score_deals
from serving.callers import UsersByEmail, users_by_email
from serving.schema import SCORE_COLUMNS, rows_of

CHANGE_DAYS = 7
FEW_DEALS = 100
"""So many are looked up by name in the ledger; for more of them all are read."""
OUTCOMES = {"won": "won", "lost": "lost", "deleted": "lost"}
"""How a deal ended, as the contract counts it; a merged deal lives on in another and is nobody's."""


@dataclass(frozen=True, eq=False)
class State:
    """One data version as one model sees it; immutable, so that a request never sees half of each.

    Attributes
    ----------
    tables, history : with the field classes of the bundle.
    card : the model card as `GET /v1/model` answers it.
    scores : the contract's score rows of all open deals.
    features : what they were scored by, row by row: `build_features`.
    earlier : what had been published of them a week before (deal_id as the index; win_probability, as_of).
    forecasts, draws, moves, bookings : computed when asked for, and only the last kept: whoever looks at many past days
        must not fill the memory, and draws are large.
    prepared : what pages make of all this, once for all of them.
    withheld_owners : users whose deals' scores nobody sees: the holdout.
    newer : some deals as a newer data version has them, until that is loaded whole.
    """

    tables: CrmTables
    history: DealHistory
    bundle: Bundle
    card: Mapping[str, Any]
    scores: pd.DataFrame
    features: pd.DataFrame
    earlier: pd.DataFrame
    forecasts: Kept[tuple[pd.Timestamp, str | None], pd.DataFrame] = field(default_factory=partial(Kept, 64))
    draws: Kept[pd.Timestamp, DrawnForecast] = field(default_factory=partial(Kept, 1))
    moves: Kept[tuple[pd.Timestamp, pd.Timestamp, str, pd.Timestamp, str], Moves] = field(
        default_factory=partial(Kept, 8)
    )
    bookings: Kept[tuple[pd.Timestamp, pd.Timestamp], pd.DataFrame] = field(default_factory=partial(Kept, 64))
    prepared: dict[str, Any] = field(default_factory=dict)
    newer: "State | None" = None
    withheld_owners: frozenset[str] = frozenset()

    @property
    def as_of(self) -> pd.Timestamp:
        """The data's moment."""
        return self.tables.as_of

    def with_newer(self, newer: "State") -> "State":
        """The same state with some deals as a newer one has them: their scores, closings, owners and fields."""
        state = replace(self, newer=newer)
        for name in ("score_of", "closing_of", "owner_of"):
            others = {key: value for key, value in getattr(self, name).items() if key not in newer.owner_of}
            vars(state)[name] = {**others, **getattr(newer, name)}
        for name in ("subtree_of", "users_by_email", "user_names", "sources", "rates"):
            if name in vars(self):
                vars(state)[name] = vars(self)[name]
        return state

    @cached_property
    def score_of(self) -> Mapping[str, dict[str, Any]]:
        """The contract's Score of every open deal, ready for JSON, by deal_id."""
        return {row["deal_id"]: row for row in rows_of(self.scores, SCORE_COLUMNS)}

    @cached_property
    def score_texts(self) -> dict[tuple[str, bool], bytes]:
        """Scores as JSON, by deal_id and whether with reasons: as far as they were asked for."""
        return {}

    @cached_property
    def closing_of(self) -> Mapping[str, dict[str, Any]]:
        """How and when each closed deal closed: deal_id, outcome (won, lost), closed_at."""
        endings = self.history.endings
        now = endings[(endings["at"] <= self.as_of) & ~(endings["until"] <= self.as_of)]
        now = now[now["outcome"].isin(list(OUTCOMES))].sort_values("at", kind="stable")
        columns = zip(now["deal_id"], now["outcome"], now["at"], strict=True)
        return {id_: {"deal_id": id_, "outcome": OUTCOMES[how], "closed_at": to_plain(at)} for id_, how, at in columns}

    @cached_property
    def owner_of(self) -> Mapping[str, str | None]:
        """Each deal's owner now; None if unknown."""
        deals = self.tables.get("deals")
        owners = deals["owner_id"] if "owner_id" in deals else pd.Series(None, index=deals.index, dtype="str")
        return dict(zip(deals["deal_id"], (to_plain(owner) for owner in owners), strict=True))

    @cached_property
    def known_owners(self) -> frozenset[str]:
        """Everybody whom the CRM knows as a user, or who ever owned a deal."""
        states = self.history.states
        owners = states["owner_id"].dropna().unique() if "owner_id" in states else ()
        return frozenset((*self.tables.get("users")["user_id"], *owners))

    @cached_property
    def sources(self) -> FeatureSources:
        """What features are read from, proposals and newer deals as well."""
        return build_sources(self.tables, self.history).keeping_levels()

    @cached_property
    def rates(self) -> RateBook:
        """What other currencies are worth in base currency, and when."""
        return RateBook.from_tables(self.tables)

    @cached_property
    def subtree_of(self) -> Mapping[str, frozenset[str]]:
        """The users below each user, and the user."""
        below: dict[str, set[str]] = {}
        for user, above in org_chart(self.tables, self.history, self.as_of).managers_above.items():
            for each in (user, *above):
                below.setdefault(each, set()).add(user)
        return {user: frozenset(users) for user, users in below.items()}

    @cached_property
    def user_names(self) -> Mapping[str, str]:
        """What people are called, of those whose name is known, by user_id."""
        users = self.tables.get("users")
        return dict(users.dropna(subset=["name"])[["user_id", "name"]].to_numpy().tolist()) if "name" in users else {}

    @cached_property
    def users_by_email(self) -> UsersByEmail:
        """The user_ids of each e-mail: who signs in is the one user who has it."""
        users = self.tables.get("users")
        return users_by_email(users["user_id"].tolist(), users["email"].tolist() if "email" in users else [])

    def may_see_owner(self, viewer: str | None, owner: str | None) -> bool:
        """Whether a user (None: the whole company) may see what belongs to an owner: himself and whom he manages."""
        return viewer is None or owner == viewer or owner in self.subtree_of.get(viewer, frozenset())

    def may_see_deal(self, viewer: str | None, deal_id: str) -> bool:
        """Whether a user may see a deal; one that does not exist is seen by nobody."""
        return deal_id in self.owner_of and self.may_see_owner(viewer, self.owner_of[deal_id])

    def shows_score(self, deal_id: str) -> bool:
        """Whether what the model says of a deal is shown at all: nobody sees it of teams that are held out."""
        return self.owner_of.get(deal_id) not in self.withheld_owners

    def may_see_score(self, viewer: str | None, deal_id: str) -> bool:
        """Whether a user may see a deal, and what the model says of it."""
        return self.may_see_deal(viewer, deal_id) and self.shows_score(deal_id)

    def score_for(self, viewer: str | None, deal_id: str) -> dict[str, Any] | None:
        """The Score of a deal, if it is open and shown, as a user may read it."""
        score = self.score_of.get(deal_id) if self.shows_score(deal_id) else None
        return score and self.told_to(viewer, self.owner_of[deal_id], score)

    def told_to(self, viewer: str | None, owner: str | None, score: dict[str, Any]) -> dict[str, Any]:
        """A Score as a user may read it: reasons meant for those above the owner are not told to the owner."""
        if viewer is None or viewer != owner:
            return score
        told = [each for each in score["reasons"] if BY_NAME[each["feature"]].audience == "everyone"]
        return {**score, "reasons": told}

    def standing_of(self, deal_id: str) -> str | None:
        """open, won or lost; None for a deal that does not exist, was merged away, or closed nobody knows when."""
        if deal_id in self.score_of:
            return "open"
        return self.closing_of[deal_id]["outcome"] if deal_id in self.closing_of else None

    def standing_seen(self, viewer: str | None, deal_id: str) -> str | None:
        """How a deal stands (`standing_of`), for a user; None as well where the user may not see it."""
        return self.standing_of(deal_id) if self.may_see_deal(viewer, deal_id) else None

    def deal(self, deal_id: str) -> dict[str, Any]:
        """Every field of a deal as the CRM has it now, ready for JSON."""
        if self.newer is not None and deal_id in self.newer.owner_of:
            return self.newer.deal(deal_id)
        deals = self.tables.get("deals")
        row = deals[deals["deal_id"] == deal_id].iloc[0]
        return {str(name): to_plain(value) for name, value in row.items() if not str(name).startswith("_")}

    def visible_nodes(self, nodes: pd.DataFrame, viewer: str | None) -> pd.DataFrame:
        """The forecast rows a user may see: those of himself and of whom he manages, whole subtrees all."""
        if viewer is None:
            return nodes
        mine = nodes["node_id"].map(lambda user: self.may_see_owner(viewer, user)).astype(bool)
        return nodes[nodes["node_type"].isin(["rep", "manager"]) & mine]

    def forecast(self, period: Period, by: str | None = None) -> pd.DataFrame:
        """The contract's forecast rows of a period, with a breakdown or without, computed once."""
        about = (self.bundle, self.tables, self.history, self.scores)
        work_out = partial(forecast_nodes, *about, as_of=self.as_of, period=period, by=by)
        return self.forecasts.of((period.start_at, by), work_out)

    def booked(self, period: Period, at: pd.Timestamp) -> pd.DataFrame:
        """The wins of a period that counted at a moment, as they showed then, computed once; the last are kept."""
        work_out = partial(bookings, self.tables, self.history, at, period)
        return self.bookings.of((period.start_at, at), work_out)

    def drawn(self, period: Period) -> DrawnForecast:
        """The forecast of a period with its draws, computed once; kept for the period asked for last."""
        return self.draws.of(period.start_at, partial(self._draw, period))

    def _draw(self, period: Period) -> DrawnForecast:
        beyond = chances_beyond_scores(self.bundle, self.tables, self.history, as_of=self.as_of, period=period)
        return draw_forecast(
            self.bundle,
            self.tables,
            self.history,
            self.scores,
            as_of=self.as_of,
            period=period,
            win_probability=beyond,
        )

    def moved(
        self,
        period: Period,
        since: pd.Timestamp,
        before: Bundle,
        *,
        as_of: pd.Timestamp | None = None,
        bundle: Bundle | None = None,
    ) -> Moves:
        """Why a period's forecast is not what a model said of it earlier, computed once; the last asked for are kept.

        Parameters
        ----------
        as_of, bundle : a past moment that is compared instead of the data's, and the model that spoke then.
        """
        as_of, bundle = as_of or self.as_of, bundle or self.bundle
        asked = (period.start_at, since, before.model_version, as_of, bundle.model_version)
        return self.moves.of(asked, partial(self._move, period, since, before, as_of, bundle))

    def _move(self, period: Period, since: pd.Timestamp, before: Bundle, as_of: pd.Timestamp, bundle: Bundle) -> Moves:
        known = (self.tables, self.history)
        tables, history = known if bundle.reads_as(self.bundle) else bundle.read_history(self.tables)
        scores = self.scores if as_of == self.as_of and bundle is self.bundle else None
        return moves_since(
            bundle, tables, history, since=since, as_of=as_of, period=period, before=before, scores=scores
        )


def load_state(workspace: Path, ledger: Ledger, before: State | None = None, holdout: Holdout | None = None) -> State:
    """Read the current data version and its model and score every open deal.

    Parameters
    ----------
    before : the state so far; what has not changed is taken from it.
    holdout : teams whose deals' scores are not shown.

    Raises
    ------
    NoModel
        No model may answer for the data's moment.
    DataUnusable
        Nothing has been imported, or it cannot be read.
    """
    version = current_version(workspace)
    unchanged = before is not None and before.tables.data_version == version
    tables = before.tables if before is not None and unchanged else read_tables(workspace, version)
    bundle = bundle_for(workspace, tables.as_of, tables.as_of)
    if before is not None and unchanged and before.bundle.field_classes == bundle.field_classes:
        history, sources = before.history, before.sources
    else:
        tables, history = bundle.read_history(tables)
        sources = build_sources(tables, history).keeping_levels()
    spine = open_deals(history, tables.as_of)
    features = build_features(tables, history, spine, sources=sources)
    scores = score_deals(bundle, tables, history, spine, features=features)
    holdout, users = holdout or Holdout(), tables.get("users")
    card = with_limit(model_card(workspace, bundle.manifest), holdout.announced(users))
    withheld = holdout.withheld_owners(users)
    earlier = published_earlier(scores["deal_id"].tolist(), ledger, tables.as_of)
    said = changed_since(scores, earlier)
    state = State(tables, history, bundle, card, said, features, earlier, withheld_owners=withheld)
    vars(state)["sources"] = sources
    for prepared in ("score_of", "closing_of", "owner_of", "subtree_of"):
        getattr(state, prepared)  # now, not in the first request
    return state


def published_earlier(deal_ids: Sequence[str], ledger: Ledger, as_of: pd.Timestamp) -> pd.DataFrame:
    """By deal_id, the last win_probability published for a moment (as_of) at least seven days before."""
    few = list(deal_ids) if len(deal_ids) <= FEW_DEALS else None
    published = ledger.scores_published_before(as_of - pd.Timedelta(days=CHANGE_DAYS), few).set_index("deal_id")
    return published.reindex(deal_ids)[["win_probability", "as_of"]]


def with_change(scores: pd.DataFrame, ledger: Ledger, as_of: pd.Timestamp) -> pd.DataFrame:
    """The scores with what changed, in points, since the last one published for a moment at least seven days before."""
    return changed_since(scores, published_earlier(scores["deal_id"].tolist(), ledger, as_of))


def changed_since(scores: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """The scores with what changed, in points, since `published_earlier`."""
    before = earlier.reindex(scores["deal_id"]).set_axis(scores.index)
    change = 100 * (scores["win_probability"] - before["win_probability"])
    return scores.assign(score_change=change, score_change_since=before["as_of"])
