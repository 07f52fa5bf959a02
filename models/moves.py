"""Why a forecast moved: the difference of two moments' means as a walk, each step with the deals behind it.

The walk has a fixed order. First the earlier moment as the later moment's model sees it (`model`). Then each deal on
its own, at the place where it counted: an open deal passes through *the same facts on the later day* (`time`), *the
facts of the later day* (`edited`, `slipped_out`, `pulled_in`), *the later amount at the earlier exchange rates*
(`repriced`) and *the later rates* (`exchange_rates`); one that closed goes to what it became (`won_earlier`,
`won_later`, `lost`, …). Then its money is carried to the place where it counts later (`owner`). Last, what deals yet to
come are expected to bring (`not_yet_created`). Every step starts where the one before ended, so the steps sum to the
whole, at every node.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crm.calendar import Period
from crm.hierarchy import Hierarchy, build_hierarchy
from crm.history import DealHistory, build_history
from crm.money import RateBook
from crm.tables import CrmTables
from crm.truncation import truncate_export
from models.bundle import Bundle
from models.forecast_look import COUNTED, OPEN, ForecastLook, money_of, score_and_look
from models.forecast_parts import distinct_places
from models.scorer import chances_in

CAUSES = {
    "model": "another model speaks",
    "won_earlier": "won, by the day the model expected or before",
    "won_later": "won, after the day the model expected",
    "lost": "lost or deleted",
    "slipped_out": "moved out of the period",
    "pulled_in": "moved into the period",
    "reopened": "reopened, or a win that no longer counts",
    "newly_created": "created since",
    "merged": "merged into another deal",
    "edited": "chances that moved with what was recorded",
    "time": "chances that moved with time alone",
    "repriced": "amounts that changed",
    "exchange_rates": "exchange rates",
    "owner": "moved in or out with their owner",
    "not_yet_created": "deals yet to come",
}
"""Every cause, in words, in the order in which they are told."""

MOVED_COLUMNS = (
    *("node_type", "node_id", "node_name", "earlier", "later"),
    *("cause", "text", "amount", "deals", "other_deals", "other_amount"),
)
NAMED_DEALS = 10
_NOTHING = 1e-9
_NUMBER_OF = {cause: number for number, cause in enumerate(CAUSES)}


@dataclass(frozen=True)
class Moves:
    """What lies between two forecasts of one period.

    Attributes
    ----------
    steps : cause, deal_id (NaN: deals yet to come), place, money (base currency): sums to the difference at each place.
    hierarchy : how places add up to the nodes of the later moment and those that had money at the earlier one.
    earlier, later : (nodes,) the two means.
    """

    steps: pd.DataFrame
    hierarchy: Hierarchy
    earlier: np.ndarray
    later: np.ndarray

    def amounts(self) -> np.ndarray:
        """(nodes, causes) money by cause, in the order of `CAUSES`."""
        places = self.hierarchy.membership.shape[1]
        cell = self.steps["place"].to_numpy() * len(CAUSES) + self.steps["cause"].map(_NUMBER_OF).to_numpy(dtype=int)
        money = np.bincount(cell, self.steps["money"], places * len(CAUSES))
        return self.hierarchy.roll_up(money.reshape(places, len(CAUSES)))

    def rows(self, *, named: int = NAMED_DEALS) -> pd.DataFrame:
        """The waterfall of every node.

        Returns
        -------
        Frame with `MOVED_COLUMNS`, a row per node and cause that moved something: the two means, the money of the
        cause, its strongest deals (list of {"deal_id", "amount"}), how many others there are and what they sum to.
        """
        nodes, amounts = self.hierarchy.nodes, self.amounts()
        behind = self._by_deal()
        node, cause = np.nonzero(_occurs(behind, amounts))
        listed = _strongest(behind, named)
        rows = nodes.iloc[node][["node_type", "node_id", "node_name"]].reset_index(drop=True)
        told = [listed.get(key, _NOBODY) for key in zip(node.tolist(), cause.tolist(), strict=True)]
        names = np.array(list(CAUSES))[cause]
        return rows.assign(
            earlier=self.earlier[node],
            later=self.later[node],
            cause=pd.Series(names, dtype="str"),
            text=pd.Series([CAUSES[name] for name in names], dtype="str"),
            amount=amounts[node, cause],
            deals=pd.Series([each[0] for each in told], dtype=object),
            other_deals=np.array([each[1] for each in told], dtype=np.int64),
            other_amount=np.array([each[2] for each in told], dtype=np.float64),
        )[list(MOVED_COLUMNS)]

    def _by_deal(self) -> pd.DataFrame:
        """node, cause (numbers), deal_id, money: what each deal moved at each node, nothing left out that moved."""
        steps = self.steps.dropna(subset=["deal_id"])
        ids, deal = np.unique(steps["deal_id"].to_numpy(dtype=str), return_inverse=True)
        member = self.hierarchy.membership.tocsc()
        place = steps["place"].to_numpy()
        count = np.diff(member.indptr)[place]
        step = np.repeat(np.arange(len(steps)), count)
        within = np.arange(len(step)) - np.repeat(np.cumsum(count) - count, count)
        node = member.indices[member.indptr[place][step] + within].astype(np.int64)
        cause = steps["cause"].map(_NUMBER_OF).to_numpy(dtype=np.int64)[step]
        key = (node * len(CAUSES) + cause) * max(len(ids), 1) + deal[step]
        keys, group = np.unique(key, return_inverse=True)
        money = np.bincount(group, steps["money"].to_numpy()[step], len(keys))
        kept = np.abs(money) > _NOTHING
        keys, money = keys[kept], money[kept]
        bar, of = keys // max(len(ids), 1), keys % max(len(ids), 1)
        return pd.DataFrame(
            {"node": bar // len(CAUSES), "cause": bar % len(CAUSES), "deal_id": ids[of], "money": money}
        )


_NOBODY: tuple[list[dict[str, Any]], int, float] = ([], 0, 0.0)


def _occurs(behind: pd.DataFrame, amounts: np.ndarray) -> np.ndarray:
    """(nodes, causes) whether anything moved, be it deals that cancel each other."""
    occurs = np.abs(amounts) > _NOTHING
    occurs[behind["node"], behind["cause"]] = True
    return occurs


def _strongest(behind: pd.DataFrame, named: int) -> dict[tuple[int, int], tuple[list[dict[str, Any]], int, float]]:
    """By node and cause: the deals that moved most, how many others there are, and what those sum to."""
    # The rows come by deal_id, which a stable sort keeps where two moved as much.
    order = np.lexsort((-behind["money"].abs(), behind["cause"], behind["node"]))
    behind = behind.iloc[order]
    bar = (behind["node"] * len(CAUSES) + behind["cause"]).to_numpy()
    starts = np.flatnonzero(np.r_[True, bar[1:] != bar[:-1]]) if len(bar) else np.array([], dtype=int)
    ends = np.r_[starts[1:], len(bar)] if len(bar) else starts
    ids, money = behind["deal_id"].tolist(), behind["money"].tolist()
    upto = np.r_[0.0, np.cumsum(behind["money"].to_numpy())].tolist()
    found = {}
    for start, end, number in zip(starts.tolist(), ends.tolist(), bar[starts].tolist(), strict=True):
        cut = min(start + named, end)
        deals = [{"deal_id": ids[row], "amount": money[row]} for row in range(start, cut)]
        found[divmod(number, len(CAUSES))] = (deals, end - cut, upto[end] - upto[cut] if cut < end else 0.0)
    return found


def explain_moves(
    earlier: ForecastLook, later: ForecastLook, *, restated: ForecastLook, waited: pd.Series, book: RateBook
) -> Moves:
    """The walk from one moment's forecast to another's.

    Parameters
    ----------
    earlier : as the model of that time said it.
    later : the same period at the other moment.
    restated : the earlier moment as the later moment's model says it; `earlier` itself if that is the same model.
    waited : by deal_id, the chance of a deal open at both moments on the later day, had nothing been recorded since
        the earlier moment; a deal without one is taken to have moved with what was recorded.
    """
    looks = [earlier, restated, later]
    parts = [frame for look in looks for frame in (look.deals, look.arrivals)]
    places, place_of = distinct_places(parts)
    hierarchy = build_hierarchy(later.chart, places)
    deal_place = dict(zip(map(id, looks), place_of[0::2], strict=True))
    come_place = dict(zip(map(id, looks), place_of[1::2], strict=True))
    steps = [_deal_steps(restated, later, deal_place[id(restated)], deal_place[id(later)], waited, book)]
    for cause, before, after in (("model", earlier, restated), ("not_yet_created", restated, later)):
        if after is before:
            continue
        for look, sign in ((before, -1.0), (after, 1.0)):
            money = sign * look.arrivals["money"].to_numpy()
            steps.append(_step(cause, np.full(len(money), np.nan, dtype=object), come_place[id(look)], money))
            if cause == "model":
                ids = look.deals["deal_id"].to_numpy(dtype=object)
                steps.append(_step(cause, ids, deal_place[id(look)], sign * money_of(look.deals)))
    walked = pd.concat(steps, ignore_index=True)
    means = [
        hierarchy.roll_up(
            np.bincount(deal_place[id(look)], money_of(look.deals), len(places))
            + np.bincount(come_place[id(look)], look.arrivals["money"], len(places))
        )
        for look in (earlier, later)
    ]
    kinds = {"cause": "str", "deal_id": "str", "place": "int64", "money": "float64"}
    return Moves(walked.astype(kinds), hierarchy, *means)


def moves_since(
    bundle: Bundle,
    tables: CrmTables,
    history: DealHistory,
    *,
    since: pd.Timestamp,
    as_of: pd.Timestamp,
    period: Period,
    before: Bundle | None = None,
    scores: pd.DataFrame | None = None,
) -> Moves:
    """Why a bundle's forecast at `as_of` is not what was said at `since`.

    Parameters
    ----------
    tables, history : as `bundle.read_history` gives them.
    before : the model that spoke at `since`, if it is another one.
    scores : the bundle's score rows at `as_of`, if they are at hand.
    """
    later = score_and_look(bundle, tables, history, as_of=as_of, period=period, scores=scores)
    restated = score_and_look(bundle, tables, history, as_of=since, period=period)
    earlier = restated
    if before is not None and before.model_version != bundle.model_version:
        seen = (tables, history) if before.reads_as(bundle) else before.read_history(tables)
        earlier = score_and_look(before, *seen, as_of=since, period=period)
    waited = _chances_had_nothing_happened(bundle, tables, history, restated, later)
    return explain_moves(earlier, later, restated=restated, waited=waited, book=RateBook.from_tables(tables))


def _chances_had_nothing_happened(
    bundle: Bundle, tables: CrmTables, history: DealHistory, earlier: ForecastLook, later: ForecastLook
) -> pd.Series:
    """The chances of the deals open at both moments, on the later day with the facts of the earlier one."""
    both = sorted(_open_ids(earlier) & _open_ids(later))
    if not both or later.period.end_at <= later.as_of:
        return pd.Series(0.0, index=pd.Index(both, dtype="str"))
    frozen = truncate_export(tables, earlier.as_of, history)
    spine = pd.DataFrame({"deal_id": both, "as_of": later.as_of})
    spine = spine.astype({"deal_id": "str", "as_of": "datetime64[us, UTC]"})
    return chances_in(bundle, frozen, build_history(frozen), spine, later.period)


def _open_ids(look: ForecastLook) -> set[str]:
    return set(look.deals.loc[look.deals["state"] == OPEN, "deal_id"])


def _step(cause: str | np.ndarray, deal_id: np.ndarray, place: np.ndarray, money: np.ndarray) -> pd.DataFrame:
    moved = np.abs(money) > 0
    causes = np.full(len(money), cause, dtype=object) if isinstance(cause, str) else cause
    return pd.DataFrame(
        {"cause": causes[moved], "deal_id": deal_id[moved], "place": place[moved], "money": money[moved]}
    )


def _deal_steps(
    earlier: ForecastLook,
    later: ForecastLook,
    place_before: np.ndarray,
    place_after: np.ndarray,
    waited: pd.Series,
    book: RateBook,
) -> pd.DataFrame:
    """The steps of every deal that brings something at either moment, one model speaking of both."""
    was, came = earlier.deals.set_index("deal_id"), later.deals.set_index("deal_id")
    ids = was.index.union(came.index)
    before = was.assign(place=place_before).reindex(ids)
    after = came.assign(place=place_after).reindex(ids)
    walk = _Walk(earlier, later, before, after, waited.reindex(ids).to_numpy(dtype=float))
    rate = _rate_then(book, before, after)
    start = before["place"].fillna(after["place"]).to_numpy(dtype=np.int64)
    end = after["place"].fillna(before["place"]).to_numpy(dtype=np.int64)
    names = ids.to_numpy(dtype=object)
    steps = [_step(cause, names, start, money) for cause, money in (*walk.stayed_open(rate), *walk.won(rate))]
    steps.append(_step(walk.otherwise_cause(), names, start, np.where(walk.otherwise, walk.brings - walk.brought, 0.0)))
    moved = np.where(start != end, walk.brings, 0.0)
    return pd.concat(
        [*steps, _step("owner", names, start, -moved), _step("owner", names, end, moved)], ignore_index=True
    )


def _rate_then(book: RateBook, before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
    """The exchange rate of each deal's later currency when it was rated earlier, over the one it is rated at later."""
    ones = pd.Series(1.0, index=after.index)
    then, now = (book.to_base(ones, after["currency"], each["rated_at"]).to_numpy() for each in (before, after))
    known = ~np.isnan(then) & ~np.isnan(now) & (now != 0)
    return np.where(known, np.divide(then, now, out=np.ones(len(now)), where=known), 1.0)


class _Walk:
    """The two states of every deal side by side, as arrays."""

    def __init__(
        self,
        earlier: ForecastLook,
        later: ForecastLook,
        before: pd.DataFrame,
        after: pd.DataFrame,
        waited: np.ndarray,
    ) -> None:
        self.period = later.period
        self.is_over = later.as_of >= later.period.end_at
        self.before, self.after = before, after
        self.was, self.now = _state(earlier, before), _state(later, after)
        self.booked = after["booked_on"].fillna(later.closed["booked_on"].reindex(after.index))
        self.chance_before, self.amount_before = (before[name].fillna(0.0).to_numpy() for name in ("chance", "amount"))
        self.chance_after, self.amount_after = (after[name].fillna(0.0).to_numpy() for name in ("chance", "amount"))
        self.brought, self.brings = self.chance_before * self.amount_before, self.chance_after * self.amount_after
        self.waited = np.where(np.isnan(waited), self.chance_before, waited)
        self.both_open = (self.was == OPEN) & (self.now == OPEN)
        self.open_to_won = (self.was == OPEN) & (self.now == COUNTED)
        both_counted = (self.was == COUNTED) & (self.now == COUNTED)
        self.now_counted = self.open_to_won | both_counted
        self.otherwise = ~self.both_open & ~self.now_counted

    def stayed_open(self, rate: np.ndarray) -> list[tuple[str | np.ndarray, np.ndarray]]:
        """Open then and now: time, what was recorded, the amount, exchange rates."""
        here = self.both_open
        if self.is_over:
            return [("slipped_out", np.where(here, self.brings - self.brought, 0.0))]
        at_old_rates = self.amount_after * rate
        time = (self.waited - self.chance_before) * self.amount_before
        recorded = (self.chance_after - self.waited) * self.amount_before
        price = self.chance_after * (at_old_rates - self.amount_before)
        # Where the CRM shows the same amount, it is the stage or type that makes another one of it.
        same = self._shows_the_same(rate)
        recorded, price = np.where(same, recorded + price, recorded), np.where(same, 0.0, price)
        rates = self.chance_after * (self.amount_after - at_old_rates)
        by_cause: list[tuple[str | np.ndarray, np.ndarray]] = [
            ("time", time),
            (self._recorded_cause(), recorded),
            ("repriced", price),
            ("exchange_rates", rates),
        ]
        return [(cause, np.where(here, money, 0.0)) for cause, money in by_cause]

    def won(self, rate: np.ndarray) -> list[tuple[str | np.ndarray, np.ndarray]]:
        """Counted now, open or counted then: the chance that was missing, the amount, exchange rates."""
        at_old_rates = self.amount_after * rate
        is_later = (self.booked > self.before["expected_on"]).to_numpy()
        missing = np.where(self.open_to_won, (1 - self.chance_before) * self.amount_before, 0.0)
        by_cause: list[tuple[str | np.ndarray, np.ndarray]] = [
            (np.where(is_later, "won_later", "won_earlier").astype(object), missing),
            ("repriced", at_old_rates - self.amount_before),
            ("exchange_rates", self.amount_after - at_old_rates),
        ]
        return [(cause, np.where(self.now_counted, money, 0.0)) for cause, money in by_cause]

    def otherwise_cause(self) -> np.ndarray:
        """The one cause of every other change of state."""
        was, now = self.was, self.now
        elsewhere = now == "won"
        before_it = elsewhere & (self.booked < pd.Timestamp(self.period.start)).to_numpy()
        rules = [
            ((was == _ABSENT) | (now == _ABSENT), "newly_created"),
            ((was == "merged") | (now == "merged"), "merged"),
            ((was == OPEN) & before_it, "won_earlier"),
            (elsewhere, "slipped_out"),
            ((was == "won") & (now == COUNTED), "pulled_in"),
            (was == OPEN, "lost"),
        ]
        return np.select([rule for rule, _ in rules], [cause for _, cause in rules], "reopened").astype(object)

    def _shows_the_same(self, rate: np.ndarray) -> np.ndarray:
        before, after = self.before["shown"].to_numpy(), self.after["shown"].to_numpy() * rate
        return np.isclose(before, after, rtol=1e-9, atol=_NOTHING, equal_nan=True)

    def _recorded_cause(self) -> np.ndarray:
        end = pd.Timestamp(self.period.end)
        was, now = self.before["due_on"], self.after["due_on"]
        out, into = ((was < end) & (now >= end)).to_numpy(), ((was >= end) & (now < end)).to_numpy()
        return np.select([out, into], ["slipped_out", "pulled_in"], "edited").astype(object)


_ABSENT = "absent"


def _state(look: ForecastLook, rows: pd.DataFrame) -> np.ndarray:
    """open, counted, or how it is closed: won (booked in another period), lost, deleted, merged; absent."""
    state = rows["state"].fillna(look.closed["outcome"].reindex(rows.index)).fillna(_ABSENT)
    return state.to_numpy(dtype=object)
