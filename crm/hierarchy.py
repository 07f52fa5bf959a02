"""Who sells for whom at a moment: reps, their teams and regions, the company, and the tree of managers.

Money is placed once, with its owner's team, region and managers at the moment that counts for it, and rolled up from
there, so that reps, teams and regions each add up to the company.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from crm.history import DealHistory
from crm.tables import CrmTables

UNKNOWN = "(none)"
COMPANY = "company"
STATE_FIELDS = ["team", "region", "manager_id"]


@dataclass(frozen=True)
class OrgChart:
    """The users as they stood at one moment.

    Attributes
    ----------
    users : indexed by user_id: name, team, region, manager_id (`str`, NaN unknown), present (hired and not left).
    """

    users: pd.DataFrame

    @cached_property
    def manager_of(self) -> dict[str, str]:
        """The direct manager of each user who has one."""
        return self.users["manager_id"].dropna().to_dict()

    @cached_property
    def managers_above(self) -> dict[str, tuple[str, ...]]:
        """The managers above each user and each manager named, nearest first; a circle ends where it closes."""
        return {user: self._climb(user) for user in {*self.users.index, *self.manager_of.values()}}

    @cached_property
    def reps(self) -> pd.DataFrame:
        """The users present to whom nobody present reports."""
        present = self.users[self.users["present"]]
        return present[~present.index.isin(present["manager_id"])]

    @cached_property
    def reports(self) -> dict[str, list[str]]:
        """The users present who report directly to each manager."""
        reporting = self.users.loc[self.users["present"], "manager_id"].dropna()
        return {str(manager): list(users) for manager, users in reporting.groupby(reporting).groups.items()}

    def reports_of(self, user_id: str) -> list[str]:
        """The users present who report directly to a user."""
        return self.reports.get(user_id, [])

    def is_manager(self, user_id: str) -> bool:
        """Whether somebody present reports to the user."""
        return user_id in self.reports

    def _climb(self, user_id: str) -> tuple[str, ...]:
        above: list[str] = []
        here = self.manager_of.get(user_id)
        while here is not None and here != user_id and here not in above:
            above.append(here)
            here = self.manager_of.get(here)
        return tuple(above)


def org_chart(tables: CrmTables, history: DealHistory, moment: pd.Timestamp) -> OrgChart:
    """The users as they stood at a moment: as they are now at the data's moment, by their dated history before it."""
    users = tables.get("users").drop_duplicates("user_id", keep="last").set_index("user_id")
    users = users.reindex(columns=["name", *STATE_FIELDS, "hired_at", "left_at"])
    if moment < tables.as_of:
        states = history.user_states
        states = states[states["known_from"] <= moment].sort_values("known_from", kind="stable")
        last = states.drop_duplicates("user_id", keep="last").set_index("user_id")
        users[STATE_FIELDS] = last.reindex(index=users.index, columns=STATE_FIELDS)
    users = users.astype(dict.fromkeys(["name", *STATE_FIELDS], "str"))
    hired = pd.to_datetime(users["hired_at"], utc=True)
    left = pd.to_datetime(users["left_at"], utc=True)
    users["present"] = ~(hired > moment) & ~(left <= moment)
    return OrgChart(users[["name", *STATE_FIELDS, "present"]])


def place_owners(tables: CrmTables, history: DealHistory, owner_id: pd.Series, at: pd.Series) -> pd.DataFrame:
    """Where money of these owners counts, each at its own moment.

    Parameters
    ----------
    owner_id : users, NaN unknown.
    at : (same index) the moments at which their team, region and managers are looked up.

    Returns
    -------
    Frame with the index of `owner_id`: rep, team, region (`(none)` where unknown) and managers, the tuple of user ids
    whose subtree the money belongs to: the managers above, and the owner, where people report to them.
    """
    placed = pd.DataFrame({"rep": owner_id.fillna(UNKNOWN).astype("str"), "team": UNKNOWN, "region": UNKNOWN})
    placed["managers"] = pd.Series([()] * len(placed), index=placed.index, dtype=object)
    changes = np.unique(history.user_states["known_from"].dropna().to_numpy())
    epoch = np.searchsorted(changes, at.to_numpy(), side="right")
    epoch = np.where(at >= tables.as_of, len(changes) + 1, epoch)
    # Between two changes of the organisation everybody stands still: one chart serves all moments of such an epoch.
    for number in np.unique(epoch):
        here = epoch == number
        chart = org_chart(tables, history, at[here].max())
        owners = placed.loc[here, "rep"]
        for level in ("team", "region"):
            placed.loc[here, level] = owners.map(chart.users[level]).fillna(UNKNOWN).astype("str")
        subtrees = {owner: _subtrees_holding(chart, owner) for owner in owners.unique()}
        placed.loc[here, "managers"] = owners.map(subtrees)
    return placed


def _subtrees_holding(chart: OrgChart, owner: str) -> tuple[str, ...]:
    own = (owner,) if chart.is_manager(owner) else ()
    return own + chart.managers_above.get(owner, ())


def nodes_of_place(place: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The nodes (type, id) to which money belongs that is placed as `place_owners` says."""
    levels = [(level, place[level]) for level in ("rep", "team", "region")]
    return [(COMPANY, COMPANY), *levels, *(("manager", manager) for manager in place["managers"])]


@dataclass(frozen=True)
class Hierarchy:
    """The nodes of a forecast and how placed money adds up to them.

    Attributes
    ----------
    nodes : node_type, node_id, node_name, parent_type, parent_id, head_id (NaN where not exactly one user fits).
    membership : (nodes, placements) 1 where the placed money belongs to the node.
    """

    nodes: pd.DataFrame
    membership: sparse.csr_matrix

    def roll_up(self, placed: np.ndarray) -> np.ndarray:
        """(nodes, ...) sums of (placements, ...) values."""
        return np.asarray(self.membership @ placed)


def build_hierarchy(chart: OrgChart, placements: pd.DataFrame) -> Hierarchy:
    """The nodes at the chart's moment: a rep, team, region or manager present or with money, and the company.

    Parameters
    ----------
    placements : rep, team, region, managers as `place_owners` returns; the rows that `Hierarchy.roll_up` adds up.
    """
    reps = chart.reps[chart.reps["team"].notna() | chart.reps["region"].notna()]
    rows = _rep_nodes(chart, _union(placements["rep"], reps.index))
    teams = _union(placements["team"], reps["team"].dropna(), (row["parent_id"] for row in rows))
    rows += _team_nodes(chart, teams, placements)
    in_use = (row["parent_id"] for row in rows if row["node_type"] == "team")
    rows += _region_nodes(chart, _union(placements["region"], reps["region"].dropna(), in_use))
    named = [manager for chain in placements["managers"] for manager in chain]
    above = [manager for rep in reps.index for manager in chart.managers_above[rep]]
    rows += _manager_nodes(chart, _union(named, above))
    rows.append(_node(COMPANY, COMPANY, "Company", None, None, _only(_tops(chart))))
    nodes = pd.DataFrame(rows).astype("str")
    return Hierarchy(nodes, _membership(nodes, placements))


def _node(
    kind: str, node_id: str, name: str | None, parent_type: str | None, parent_id: str | None, head_id: str | None
) -> dict[str, str | None]:
    return {
        "node_type": kind,
        "node_id": node_id,
        "node_name": name,
        "parent_type": parent_type,
        "parent_id": parent_id,
        "head_id": head_id,
    }


def _rep_nodes(chart: OrgChart, reps: list[str]) -> list[dict[str, str | None]]:
    team_of, name_of = chart.users["team"].dropna(), chart.users["name"].dropna()
    # What a manager calls covers the whole subtree: it says nothing of the deals the manager owns personally.
    return [
        _node(
            "rep",
            rep,
            name_of.get(rep, rep if rep == UNKNOWN else None),
            "team",
            team_of.get(rep, UNKNOWN),
            None if rep == UNKNOWN or chart.is_manager(rep) else rep,
        )
        for rep in reps
    ]


def _team_nodes(chart: OrgChart, teams: list[str], placements: pd.DataFrame) -> list[dict[str, str | None]]:
    rows = []
    for team in teams:
        members = _members(chart, "team", team)
        region = _commonest(members["region"]) or _commonest(placements["region"][placements["team"] == team])
        managers = members["manager_id"][members["present"]]
        head = None if team == UNKNOWN else _only(_modes(managers.dropna()))
        rows.append(_node("team", team, team, "region", UNKNOWN if team == UNKNOWN else region or UNKNOWN, head))
    return rows


def _region_nodes(chart: OrgChart, regions: list[str]) -> list[dict[str, str | None]]:
    return [_node("region", region, region, COMPANY, COMPANY, _region_head(chart, region)) for region in regions]


def _manager_nodes(chart: OrgChart, managers: list[str]) -> list[dict[str, str | None]]:
    name_of = chart.users["name"].dropna()
    rows = []
    for manager in managers:
        above = chart.managers_above.get(manager, ())
        parent = ("manager", above[0]) if above else (COMPANY, COMPANY)
        rows.append(_node("manager", manager, name_of.get(manager), *parent, manager))
    return rows


def _members(chart: OrgChart, level: str, name: str) -> pd.DataFrame:
    """The reps of a team or region; where there are none those who lead it, where nobody is left those who left."""
    users = chart.users[chart.users[level] == name]
    for members in (chart.reps[chart.reps[level] == name], users[users["present"]]):
        if len(members):
            return members
    return users


def _region_head(chart: OrgChart, region: str) -> str | None:
    """The manager, directly or through others, of most of a region's reps, and of as few others as may be.

    Reps of a region with several teams have several direct managers; the one whose subtree is the region stands above.
    """
    members = set(_members(chart, "region", region).index) if region != UNKNOWN else set()
    below: dict[str, set[str]] = {}
    for rep in chart.reps.index:
        for manager in chart.managers_above[rep]:
            below.setdefault(manager, set()).add(rep)
    fitting = {
        manager: len(members & reps) / len(members | reps)
        for manager, reps in below.items()
        if 2 * len(members & reps) > len(members)
    }
    best = [manager for manager, fit in fitting.items() if fit == max(fitting.values())]
    # Of managers with the very same reps the nearest to them is the one who leads them.
    depth = {manager: len(chart.managers_above.get(manager, ())) for manager in best}
    return _only([manager for manager in best if depth[manager] == max(depth.values())])


def _tops(chart: OrgChart) -> list[str]:
    return list(chart.users.index[chart.users["present"] & chart.users["manager_id"].isna()])


def _modes(values: pd.Series) -> list[str]:
    counts = Counter(values)
    return [value for value, count in counts.items() if count == max(counts.values())]


def _commonest(values: pd.Series) -> str | None:
    """The commonest known value, the first by name where several are."""
    return min(_modes(values.dropna()), default=None)


def _only(candidates: list[str]) -> str | None:
    return candidates[0] if len(candidates) == 1 else None


def _union(*parts: Iterable[str | None]) -> list[str]:
    return sorted({str(value) for part in parts for value in part})


def _membership(nodes: pd.DataFrame, placements: pd.DataFrame) -> sparse.csr_matrix:
    row_of = {key: row for row, key in enumerate(zip(nodes["node_type"], nodes["node_id"], strict=True))}
    pairs = [(row_of[COMPANY, COMPANY], column) for column in range(len(placements))]
    for level in ("rep", "team", "region"):
        pairs += [(row_of[level, name], column) for column, name in enumerate(placements[level])]
    chains = enumerate(placements["managers"])
    pairs += [(row_of["manager", manager], column) for column, chain in chains for manager in chain]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return sparse.csr_matrix((np.ones(len(pairs)), (rows, columns)), shape=(len(nodes), len(placements)))
