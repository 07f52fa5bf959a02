"""TreeSHAP of small trees by looking it up.

A tree of s splits can answer a row in 2^s ways at most, and what each input adds depends on those answers alone. So the
exact values (those of LightGBM's `pred_contrib`) are worked out once for every way, and a row only needs its answers:
some fifty times faster for trees of eight leaves (the idea of FastTreeSHAP v2, Yang 2021).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightgbm as lgb
import numpy as np

MOST_SPLITS = 10
"""A tree of more has a table that is slower to make than it saves."""


@dataclass(frozen=True)
class TreeTable:
    """One tree: the questions it may ask a row, and what each input adds by the answers.

    Attributes
    ----------
    asked : (s,) input of each split.
    threshold : (s,) the largest float32 that goes left.
    unknown_left : (s,) whether an unknown value goes left.
    inputs : (f,) the inputs asked at all.
    adds : (f, 2^s) what each adds; bit j of the column is 1 where split j goes left.
    expected : the mean of the leaves over the rows it was grown on.
    """

    asked: tuple[int, ...]
    threshold: tuple[np.float32, ...]
    unknown_left: tuple[bool, ...]
    inputs: tuple[int, ...]
    adds: np.ndarray
    expected: float


@dataclass(frozen=True)
class _Step:
    """A split on the way to a leaf: which way it must go, and how many of its rows went there, 0..1."""

    split: int
    left: bool
    share: float


def tree_tables(booster: lgb.Booster) -> tuple[TreeTable, ...] | None:
    """The tables of all trees; None if one is too large."""
    trees = [each["tree_structure"] for each in booster.dump_model()["tree_info"]]
    splits = [list(_splits(tree)) for tree in trees]
    if max(map(len, splits), default=0) > MOST_SPLITS:
        return None
    return tuple(_table(tree, its) for tree, its in zip(trees, splits, strict=True))


def add_up(tables: tuple[TreeTable, ...], rows: np.ndarray) -> np.ndarray:
    """(r, k+1) what inputs add to the trees' sum for float32 rows (r, k), the constant last."""
    columns = np.ascontiguousarray(rows.T)
    unknown = np.isnan(columns)
    has_unknown = unknown.any(axis=1)
    sums = np.zeros((len(columns) + 1, len(rows)))
    for tree in tables:
        answers = np.zeros(len(rows), dtype=np.uint16)
        for place, (column, threshold) in enumerate(zip(tree.asked, tree.threshold, strict=True)):
            left = columns[column] <= threshold
            if has_unknown[column] and tree.unknown_left[place]:
                left |= unknown[column]
            answers |= np.left_shift(left, place, dtype=np.uint16)
        for column, adds in zip(tree.inputs, tree.adds, strict=True):
            sums[column] += adds[answers]
    sums[-1] = sum(tree.expected for tree in tables)
    return sums.T


def _table(tree: Mapping[str, Any], splits: list[Mapping[str, Any]]) -> TreeTable:
    asked = tuple(int(split["split_feature"]) for split in splits)
    inputs = tuple(dict.fromkeys(asked))
    left = (np.arange(2 ** len(splits)) >> np.arange(len(splits))[:, None] & 1).astype(bool)
    adds, expected = np.zeros((len(inputs), left.shape[1])), 0.0
    for path, value in _leaves(tree, splits):
        on_path = list(dict.fromkeys(asked[step.split] for step in path))
        # By input: whether a row's answers lead on to the leaf, and which share of unasked rows goes that way.
        agrees, share = np.ones((len(on_path), left.shape[1])), np.ones((len(on_path), 1))
        for step in path:
            place = on_path.index(asked[step.split])
            agrees[place] *= left[step.split] == step.left
            share[place] *= step.share
        expected += value * float(share.prod())
        # The Shapley value of a product is the integral over how likely each of the others is to be asked.
        at, weight = _quadrature(len(on_path))
        chance = share[..., None] * (1 - at) + agrees[..., None] * at
        others = (chance.prod(axis=0) / chance) @ weight
        adds[[inputs.index(each) for each in on_path]] += value * (agrees - share) * others
    threshold = tuple(_largest_float32(split["threshold"]) for split in splits)
    return TreeTable(asked, threshold, tuple(map(_unknown_left, splits)), inputs, adds, expected)


@cache
def _quadrature(inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre over 0..1, exact for a product of all these inputs but one."""
    nodes, weights = np.polynomial.legendre.leggauss(max(1, (inputs + 1) // 2))
    return (nodes + 1) / 2, weights / 2


def _splits(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The splits of a tree, each before those below it."""
    if "split_feature" in node:
        yield node
        for side in ("left_child", "right_child"):
            yield from _splits(node[side])


def _leaves(
    node: Mapping[str, Any], splits: list[Mapping[str, Any]], path: tuple[_Step, ...] = ()
) -> Iterator[tuple[tuple[_Step, ...], float]]:
    """Each leaf's way from the root, and its value."""
    if "split_feature" not in node:
        yield path, float(node["leaf_value"])
        return
    split = next(place for place, each in enumerate(splits) if each is node)
    for side in ("left_child", "right_child"):
        below = node[side]
        share = below.get("internal_count", below.get("leaf_count")) / node["internal_count"]
        yield from _leaves(below, splits, (*path, _Step(split, side == "left_child", share)))


def _largest_float32(threshold: float) -> np.float32:
    with np.errstate(over="ignore"):
        rounded = np.float32(threshold)
    return rounded if float(rounded) <= threshold else np.nextafter(rounded, np.float32(-np.inf))


def _unknown_left(split: Mapping[str, Any]) -> bool:
    """Where an unknown value goes; where training saw none, it counts as 0."""
    return bool(split["default_left"] if split["missing_type"] == "NaN" else split["threshold"] >= 0)
