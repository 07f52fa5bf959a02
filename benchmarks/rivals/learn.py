"""One rival on one pair of frames, in an environment of its own: reads and writes Parquet, knows nothing of dealcast.

    python learn.py NAME FOLDER --seconds 60

FOLDER holds learn.parquet (features, deal_id, won) and test.parquet (features). Writes NAME.parquet there (column
probability, a row for each of test) and NAME.json (seconds of fitting alone). One thread each.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

SEED = 7
HELD_OUT = 5
"""Where a rival stops early, it does by the log loss of every fifth deal, drawn at random."""
MOST_ROUNDS, PATIENCE, LEARNING_RATE = 2000, 50, 0.05
MOST_CATEGORIES = 250
"""scikit-learn takes 255 values of a category at most: the commonest are kept, the others are unknown."""

Predict = Callable[[pd.DataFrame], np.ndarray]


def main() -> None:
    """Fit one rival, and write what it says."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("name", choices=RIVALS)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--seconds", type=float, default=60.0, help="how long FLAML may search")
    chosen = arguments.parse_args()
    # LightGBM inside FLAML refuses a colon in a name.
    learn, test = (
        pd.read_parquet(chosen.folder / f"{name}.parquet").rename(columns=lambda name: name.replace(":", "_"))
        for name in ("learn", "test")
    )
    deals, won = pd.factorize(learn["deal_id"])[0], learn["won"].to_numpy().astype(int)
    features, test = as_categories(learn.drop(columns=["deal_id", "won"]), test)
    begun = perf_counter()
    predict = RIVALS[chosen.name](features, won, deals, chosen.seconds)
    seconds = perf_counter() - begun
    pd.DataFrame({"probability": predict(test)}).to_parquet(chosen.folder / f"{chosen.name}.parquet")
    (chosen.folder / f"{chosen.name}.json").write_text(json.dumps({"seconds": seconds}))


def as_categories(learn: pd.DataFrame, test: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Text as categories: the commonest values of the rows to learn from; others are missing.

    Features that say nothing, the same of every row, are left out: scikit-learn refuses one that is never known.
    """
    telling = [name for name in learn if learn[name].nunique(dropna=False) > 1]
    learn, test = learn[telling], test[telling]
    for name in telling:
        if not pd.api.types.is_numeric_dtype(learn[name]):
            kept = sorted(learn[name].value_counts().index[:MOST_CATEGORIES].astype(str))
            learn, test = (each.assign(**{name: _category(each[name], kept)}) for each in (learn, test))
    return learn, test


def _category(values: pd.Series, kept: list[str]) -> pd.Series:
    return values.astype("object").where(values.isin(kept)).astype(pd.CategoricalDtype(kept))


def held_out(deals: np.ndarray) -> np.ndarray:
    """(n,) whether a row belongs to a deal that is only used to stop."""
    drawn = np.random.default_rng(SEED).permutation(deals.max() + 1) % HELD_OUT == 0
    return drawn[deals]


def xgboost(features: pd.DataFrame, won: np.ndarray, deals: np.ndarray, seconds: float) -> Predict:
    """As it comes."""
    from xgboost import XGBClassifier

    model = XGBClassifier(enable_categorical=True, n_jobs=1, random_state=SEED).fit(features, won)
    return lambda rows: model.predict_proba(rows)[:, 1]


def xgboost_stopped(features: pd.DataFrame, won: np.ndarray, deals: np.ndarray, seconds: float) -> Predict:
    """Small steps, stopped early."""
    from xgboost import XGBClassifier

    out = held_out(deals)
    model = XGBClassifier(
        enable_categorical=True,
        n_jobs=1,
        random_state=SEED,
        n_estimators=MOST_ROUNDS,
        learning_rate=LEARNING_RATE,
        early_stopping_rounds=PATIENCE,
        eval_metric="logloss",
    )
    model.fit(features[~out], won[~out], eval_set=[(features[out], won[out])], verbose=False)
    return lambda rows: model.predict_proba(rows)[:, 1]


def catboost(features: pd.DataFrame, won: np.ndarray, deals: np.ndarray, seconds: float) -> Predict:
    """As it comes."""
    model = _catboost(features).fit(as_text(features), won)
    return lambda rows: model.predict_proba(as_text(rows))[:, 1]


def catboost_stopped(features: pd.DataFrame, won: np.ndarray, deals: np.ndarray, seconds: float) -> Predict:
    """Small steps, stopped early."""
    out, text = held_out(deals), as_text(features)
    model = _catboost(features, iterations=MOST_ROUNDS, learning_rate=LEARNING_RATE, early_stopping_rounds=PATIENCE)
    model.fit(text[~out], won[~out], eval_set=(text[out], won[out]))
    return lambda rows: model.predict_proba(as_text(rows))[:, 1]


def _catboost(features: pd.DataFrame, **options: object) -> Any:
    from catboost import CatBoostClassifier

    categories = list(features.select_dtypes("category"))
    fixed = {"thread_count": 1, "random_seed": SEED, "verbose": 0, "allow_writing_files": False}
    return CatBoostClassifier(cat_features=categories, **fixed, **options)


def as_text(features: pd.DataFrame) -> pd.DataFrame:
    """Categories as CatBoost takes them: text, the missing ones too."""
    return features.assign(
        **{name: features[name].astype("object").fillna("(missing)") for name in features.select_dtypes("category")}
    )


def histgb(features: pd.DataFrame, won: np.ndarray, deals: np.ndarray, seconds: float) -> Predict:
    """As it comes, without the early stopping that would tear deals apart."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(early_stopping=False, random_state=SEED).fit(features, won)
    return lambda rows: model.predict_proba(rows)[:, 1]


def histgb_stopped(features: pd.DataFrame, won: np.ndarray, deals: np.ndarray, seconds: float) -> Predict:
    """Small steps, stopped early."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    out = held_out(deals)
    model = HistGradientBoostingClassifier(
        max_iter=MOST_ROUNDS,
        learning_rate=LEARNING_RATE,
        early_stopping=True,
        n_iter_no_change=PATIENCE,
        random_state=SEED,
    )
    model.fit(features[~out], won[~out], X_val=features[out], y_val=won[out])
    return lambda rows: model.predict_proba(rows)[:, 1]


def flaml(features: pd.DataFrame, won: np.ndarray, deals: np.ndarray, seconds: float) -> Predict:
    """A search over learners and their settings for so many seconds."""
    from flaml import AutoML

    # Folds that tear a deal's snapshots apart would have it choose what remembers deals.
    model = AutoML()
    model.fit(
        X_train=features,
        y_train=won,
        task="classification",
        metric="log_loss",
        time_budget=seconds,
        split_type="group",
        groups=deals,
        n_jobs=1,
        seed=SEED,
        verbose=0,
    )
    return lambda rows: model.predict_proba(rows)[:, 1]


RIVALS: Mapping[str, Callable[[pd.DataFrame, np.ndarray, np.ndarray, float], Predict]] = {
    "xgboost": xgboost,
    "xgboost_stopped": xgboost_stopped,
    "catboost": catboost,
    "catboost_stopped": catboost_stopped,
    "histgb": histgb,
    "histgb_stopped": histgb_stopped,
    "flaml": flaml,
}

if __name__ == "__main__":
    main()
