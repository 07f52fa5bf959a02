"""The nodes of a forecast as a tree that one reads from the top: region, team, rep; or a manager's own people."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crm.hierarchy import COMPANY, OrgChart

Key = tuple[str, str]


@dataclass(frozen=True)
class Branch:
    """One row of the tree.

    Attributes
    ----------
    key : `team:East`; `under`: the keys above it, the topmost first.
    row : the forecast row's values.
    """

    key: str
    name: str
    depth: int
    under: tuple[str, ...]
    has_more: bool
    is_open: bool
    row: Mapping[str, Any]


def text_of(key: Key) -> str:
    """A node's key in an address: `team:East`."""
    return f"{key[0]}:{key[1]}"


def key_of(text: str) -> Key:
    """A node's key out of an address."""
    kind, _, name = text.partition(":")
    return kind, name


@dataclass(frozen=True)
class Tree:
    """Forecast rows of one scope that a viewer may see, and who stands under whom."""

    rows: Mapping[Key, Mapping[str, Any]]
    children: Mapping[Key, tuple[Key, ...]]
    roots: tuple[Key, ...]

    def branches(self, opened: Collection[str], start: Key | None = None) -> list[Branch]:
        """The rows to show, in order: the roots (or what is under `start`) and what is open below them."""
        tops = self.roots if start is None else self.children.get(start, ())
        above = () if start is None else self.above(start)
        return [branch for top in tops for branch in self._below(top, above, opened)]

    def _below(self, key: Key, above: tuple[str, ...], opened: Collection[str]) -> list[Branch]:
        text, more = text_of(key), self.children.get(key, ())
        is_open = text in opened and bool(more)
        row = self.rows[key]
        here = Branch(text, str(row["node_name"]), len(above), above, bool(more), is_open, row)
        if not is_open:
            return [here]
        return [here, *(branch for child in more for branch in self._below(child, (*above, text), opened))]

    def above(self, key: Key) -> tuple[str, ...]:
        """A branch with those above it, the topmost first."""
        for parent, children in self.children.items():
            if key in children:
                return (*self.above(parent), text_of(key))
        return (text_of(key),)


def build_tree(nodes: pd.DataFrame, chart: OrgChart, *, company_name: str) -> Tree:
    """The tree of forecast rows of one scope: regions under the company, or, where it is not seen, who manages whom.

    Who is largest stands first. Names that the ledger does not keep are those of the users today.
    """
    names = chart.users["name"]
    rows: dict[Key, dict[str, Any]] = {}
    for row in nodes.sort_values(["mean", "node_id"], ascending=[False, True]).to_dict("records"):
        key = (str(row["node_type"]), str(row["node_id"]))
        known = names.get(key[1]) if key[0] in ("rep", "manager") else None
        name = row.get("node_name") if isinstance(row.get("node_name"), str) else known
        name = company_name if key[0] == COMPANY else name if isinstance(name, str) else key[1]
        rows[key] = {str(field): value for field, value in row.items()} | {"node_name": name}
    whole = (COMPANY, COMPANY) in rows
    shown = [key for key in rows if not whole or key[0] != "manager"]
    children: dict[Key, list[Key]] = {}
    roots = []
    for key in shown:
        parent = _parent(rows[key], key, chart, whole)
        if parent is not None and parent in rows and parent != key:
            children.setdefault(parent, []).append(key)
        else:
            roots.append(key)
    return Tree(rows, {key: tuple(below) for key, below in children.items()}, tuple(roots))


def _parent(row: Mapping[str, Any], key: Key, chart: OrgChart, whole: bool) -> Key | None:
    """A rep stands under the team, or, for who sees only people, under the manager."""
    if not whole and key[0] == "rep":
        if chart.is_manager(key[1]):
            return ("manager", key[1])
        manager = chart.manager_of.get(key[1])
        return None if manager is None else ("manager", manager)
    parent = row["parent_type"], row["parent_id"]
    return (str(parent[0]), str(parent[1])) if all(isinstance(part, str) for part in parent) else None
