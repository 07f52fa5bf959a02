"""All features, in one order. A new feature is declared in the module of its family and so is part of the catalogue."""

import hashlib
import json

from features import account, deal, engagement, owner, timing
from features.spec import Feature

FAMILIES = (deal, timing, engagement, owner, account)

CATALOGUE: tuple[Feature, ...] = tuple(
    declared for family in FAMILIES for declared in vars(family).values() if isinstance(declared, Feature)
)
"""Every declared feature, family by family, in the order of declaration."""

BY_NAME: dict[str, Feature] = {declared.name: declared for declared in CATALOGUE}


def feature_set_hash() -> str:
    """Twelve hex digits that change whenever the meaning of a feature does."""
    meaning = [[declared.name, declared.unit, repr(declared.term)] for declared in CATALOGUE]
    return hashlib.sha256(json.dumps(meaning).encode()).hexdigest()[:12]
