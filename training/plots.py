"""Pictures of trainings and backtests, as PNG bytes: whether what was said came true, and what it rests on."""

from io import BytesIO

import pandas as pd
from matplotlib.figure import Figure

from models.bins import CAUSES
from models.hazard import HazardModel
from training.metrics import reliability

SHOWN = 25


def reliability_plot(judged: pd.DataFrame) -> bytes:
    """Share won against the mean probability of ten bins, of the model and the base rate; areas show how many rows."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    bins = reliability(judged["model"].to_numpy(), judged["won"].to_numpy())
    most = max((each.rows for each in bins), default=1)
    axes.plot([each.mean_probability for each in bins], [each.share_won for each in bins], linewidth=1)
    axes.scatter(
        [each.mean_probability for each in bins],
        [each.share_won for each in bins],
        s=[10 + 150 * each.rows / most for each in bins],
    )
    axes.set(xlabel="probability given to win in the period", ylabel="share won", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"{len(judged):,} snapshots, past fits on what came after")
    return _png(figure)


def importance_plot(hazards: HazardModel) -> bytes:
    """How much each input of the trees reduced their loss, as a share of all, by cause."""
    figure = Figure(figsize=(9, 7), layout="constrained")
    for axes, cause in zip(figure.subplots(1, len(CAUSES)), CAUSES, strict=True):
        gains = hazards.gain_shares(cause).sort_values(kind="stable").tail(SHOWN)
        axes.barh(gains.index, gains.to_numpy())
        axes.set_title(f"{cause}: share of the gain")
    return _png(figure)


def accuracy_plot(scoreboard: pd.DataFrame) -> bytes:
    """The company's error as a share of its bookings, and the mean CRPS, by week of the period and forecaster.

    Parameters
    ----------
    scoreboard : as `training.scoreboard.build_scoreboard` gives it; of calls the commit.
    """
    company = scoreboard[(scoreboard["node_type"] == "company") & scoreboard["category"].fillna("commit").eq("commit")]
    figure = Figure(figsize=(10, 5), layout="constrained")
    titles = {"wape": "error as a share of bookings", "crps": "CRPS (money)"}
    for axes, (score, title) in zip(figure.subplots(1, len(titles)), titles.items(), strict=True):
        for who, rows in company.groupby("forecaster"):
            width = 2.5 if who == "model" else 1.0
            axes.plot(rows["week"], rows[score], label=who, linewidth=width)
        axes.set(xlabel="week of the period", title=f"company: {title}", ylim=(0, None))
    if len(company):
        axes.legend(fontsize="small")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()
