"""A bundle: everything one training fitted, as it is held in memory, and which bundle answers for a moment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from crm.errors import DataUnusable, Detail, NoModel
from crm.history import DealHistory, build_history
from crm.plain import to_plain
from crm.tables import CrmTables, FieldClass
from features.catalogue import feature_set_hash
from models import bundle_store
from models.amount import AmountModel
from models.baselines import Baseline, baseline_from_dict
from models.calibration import HazardCalibration
from models.creation import CreationModel
from models.hazard import HazardModel
from models.reasons import ReferenceDeal
from models.revenue import RevenueModel
from models.typical import Typical
from models.uncertainty import WinRange

FORMAT = 7
"""Written into every manifest; a bundle of another format is refused, not guessed at."""

ONE_CHANCE = "one_chance"
"""What serves where deals are shown not to be told apart: the model's closings, with one chance of winning for all."""

CARD = (
    *("model_version", "trained_as_of", "data_version", "feature_set_hash", "features", "deals_won", "deals_lost"),
    *("metrics", "baselines", "fallback", "limits"),
)


@dataclass(frozen=True)
class Bundle:
    """One training's models.

    Attributes
    ----------
    manifest : the model card (`CARD`), trained_on (the local day), field_classes, bins, seed and sizes; model_version
        once it is written.
    hazards : intensities of winning and losing.
    calibration : their correction.
    win_range : how sure they are of a probability.
    reference : the average open deal, which effects of reasons are measured against.
    typical : what was usual for deals that were won, which reasons compare a deal's values with.
    amount, creation, revenue : amount if won, deals yet to come, shared shocks.
    baselines : each by name, fitted at the same moment.
    judged : the evidence behind the metrics: deal_id, as_of, won (in the period, 1 or 0) and served, what the past fits
        (or the baseline that serves) said then; see `training.evaluate`.
    """

    manifest: Mapping[str, Any]
    hazards: HazardModel
    calibration: HazardCalibration
    win_range: WinRange
    reference: ReferenceDeal
    typical: Typical
    amount: AmountModel
    creation: CreationModel
    revenue: RevenueModel
    baselines: Mapping[str, Baseline]
    judged: pd.DataFrame

    @property
    def model_version(self) -> str:
        return str(self.manifest["model_version"])

    @property
    def trained_as_of(self) -> pd.Timestamp:
        return pd.Timestamp(self.manifest["trained_as_of"])

    @property
    def fallback(self) -> Baseline | None:
        """The baseline that serves in the model's place, if it was not beaten."""
        name = self.manifest["fallback"]
        return None if name in (None, ONE_CHANCE) else self.baselines[name]

    @property
    def one_chance(self) -> float | None:
        """The share of all closings that are won, if every deal is given that chance (`ONE_CHANCE`)."""
        return self.manifest["picking"]["share_won"] if self.manifest["fallback"] == ONE_CHANCE else None

    @property
    def tells_apart(self) -> bool:
        """Whether the model itself serves, so that its reasons are those of what is said."""
        return self.manifest["fallback"] is None

    @property
    def field_classes(self) -> dict[str, FieldClass]:
        """The classes that deal fields had in the data it was trained on; it scores with these."""
        return {name: FieldClass.from_dict(stored) for name, stored in self.manifest["field_classes"].items()}

    def reads_as(self, other: "Bundle") -> bool:
        """Whether its features see the same dated facts as another bundle's."""
        mine, its = ({n: c.reading for n, c in each.field_classes.items()} for each in (self, other))
        return mine == its

    def read_history(self, tables: CrmTables) -> tuple[CrmTables, DealHistory]:
        """The tables and their dated facts as this bundle's features must see them: with its own field classes."""
        seen = replace(tables, field_classes=self.field_classes)
        return seen, build_history(seen)


def write_bundle(workspace: Path, bundle: Bundle) -> Bundle:
    """Write a bundle under bundles/; returns it with its model_version in the manifest."""
    parts = {
        "hazards": bundle.hazards.to_dict(),
        "calibration": bundle.calibration.to_dict(),
        "win_range": bundle.win_range.to_dict(),
        "reference": bundle.reference.to_dict(),
        "typical": bundle.typical.to_dict(),
        "amount": bundle.amount.to_dict(),
        "creation": bundle.creation.to_dict(),
        "revenue": bundle.revenue.to_dict(),
        "baselines": {name: baseline.to_dict() for name, baseline in bundle.baselines.items()},
        "judged": {"csv": bundle.judged.to_csv(index=False, float_format="%.6f", lineterminator="\n")},
    }
    files = bundle_store.part_files(parts)
    day = bundle.manifest["trained_on"].replace("-", "")
    described = {**bundle.manifest, "format": FORMAT}
    _, manifest = bundle_store.write_bundle_files(workspace, files, described, trained_on=day)
    return replace(bundle, manifest=manifest)


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle, every file verified.

    Raises
    ------
    NoModel
        If there is none in that folder.
    DataUnusable
        If a file is not as it was written, or another version of dealcast wrote it in another format.
    """
    manifest, parts = bundle_store.read_parts(folder)
    if manifest.get("format") != FORMAT:
        rule = f"a bundle has format {FORMAT}"
        detail = Detail(f"bundles/{folder.name}", str(manifest.get("format")), rule, "Train again: `dealcast train`.")
        raise DataUnusable(f"The model {folder.name} was written by another version of dealcast.", detail)
    return Bundle(
        manifest=manifest,
        hazards=HazardModel.from_dict(parts["hazards"]),
        calibration=HazardCalibration.from_dict(parts["calibration"]),
        win_range=WinRange.from_dict(parts["win_range"]),
        reference=ReferenceDeal.from_dict(parts["reference"]),
        typical=Typical.from_dict(parts["typical"]),
        amount=AmountModel.from_dict(parts["amount"]),
        creation=CreationModel.from_dict(parts["creation"]),
        revenue=RevenueModel.from_dict(parts["revenue"]),
        baselines={name: baseline_from_dict(stored) for name, stored in parts["baselines"].items()},
        judged=_read_judged(parts["judged"]["csv"]),
    )


def bundle_for(workspace: Path, as_of: pd.Timestamp, data_as_of: pd.Timestamp) -> Bundle:
    """The bundle that answers for a moment.

    The champion if it was trained at or before `as_of`; for a past moment, one before `data_as_of`, otherwise the model
    with the latest training moment not after it, the last registered of several.

    Raises
    ------
    NoModel
        If there is none, or it was trained with features that this installation does not know or means otherwise.
    """
    champion = bundle_store.read_champion(workspace)
    manifests = bundle_store.list_bundles(workspace)
    fitting = [each["model_version"] for each in manifests if pd.Timestamp(each["trained_as_of"]) <= as_of]
    if champion is not None and champion in fitting:
        return read_bundle_to_score(workspace, champion)
    if as_of < data_as_of and fitting:
        return read_bundle_to_score(workspace, fitting[-1])
    raise _no_model(as_of, data_as_of, [each["model_version"] for each in manifests])


def read_bundle_to_score(workspace: Path, version: str) -> Bundle:
    """A bundle by its version, to score with.

    Raises
    ------
    NoModel
        There is none, or it was trained with features that this installation does not know or means otherwise.
    DataUnusable
        A file is not as it was written.
    """
    bundle = read_bundle(bundle_store.bundles_folder(workspace) / version)
    trained_with = bundle.manifest["feature_set_hash"]
    if trained_with != feature_set_hash():
        rule = f"a model scores with the features it was trained with; this installation has {feature_set_hash()}"
        moment = bundle.manifest["trained_as_of"]
        detail = Detail(f"bundles/{version}", trained_with, rule, f"Train again: `dealcast train --as-of {moment}`.")
        raise NoModel(f"The model {version} was trained with other features.", detail)
    return bundle


def model_card(workspace: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What `GET /v1/model` answers: the card, and since when the model is the champion (null if it never was)."""
    version = manifest["model_version"]
    promoted = [each.at for each in bundle_store.list_promotions(workspace) if each.champion == version]
    return {**{name: manifest[name] for name in CARD}, "promoted_at": promoted[-1] if promoted else None}


def _read_judged(text: str) -> pd.DataFrame:
    judged = pd.read_csv(StringIO(text), dtype={"deal_id": "str"})
    return judged.assign(as_of=pd.to_datetime(judged["as_of"], utc=True).astype("datetime64[us, UTC]"))


def _no_model(as_of: pd.Timestamp, data_as_of: pd.Timestamp, versions: list[str]) -> NoModel:
    moment = to_plain(as_of)
    if as_of < data_as_of:
        next_step = f"Train one for that moment: `dealcast train --as-of {moment}`."
        rule = "a replay needs a model trained at or before its moment"
        return NoModel(f"No model was trained at or before {moment}.", Detail("bundles", moment, rule, next_step))
    next_step = "Train one: `dealcast train`." if not versions else "Promote one: `dealcast models promote VERSION`."
    rule = "scores of today come from the champion"
    return NoModel("There is no champion.", Detail("bundles/CHAMPION", None, rule, next_step))
