"""All features, in one order. A new feature is declared in the module of its family and so is part of the catalogue."""

import hashlib
import json
from collections.abc import Iterator, Mapping

from crm.tables import CrmTables
from features import account, deal, engagement, owner, timing
from features.custom import custom_feature, custom_features
from features.spec import Feature

FAMILIES = (deal, timing, engagement, owner, account)

CATALOGUE: tuple[Feature, ...] = tuple(
    declared for family in FAMILIES for declared in vars(family).values() if isinstance(declared, Feature)
)
"""Every declared feature, family by family, in the order of declaration."""


class ByName(Mapping[str, Feature]):
    """The features by name: those of the catalogue, and any custom field's, whose name declares it."""

    def __init__(self, catalogue: tuple[Feature, ...]) -> None:
        self._declared = {declared.name: declared for declared in catalogue}

    def __getitem__(self, name: str) -> Feature:
        found = self._declared.get(name) or custom_feature(name)
        if found is None:
            raise KeyError(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._declared or (isinstance(name, str) and custom_feature(name) is not None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)


BY_NAME = ByName(CATALOGUE)


def catalogue_of(tables: CrmTables) -> list[Feature]:
    """The catalogue, then a feature for each field that only this CRM has."""
    return [*CATALOGUE, *custom_features(tables)]


def feature_set_hash() -> str:
    """Twelve hex digits that change whenever the meaning of a feature does."""
    meaning = [[declared.name, declared.unit, repr(declared.term)] for declared in CATALOGUE]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:12]
