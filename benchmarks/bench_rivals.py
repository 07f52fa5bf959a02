"""The win model beside simple baselines and other people's learners, on the same frames.

    python -m benchmarks.bench_rivals [--only CASE ...] [--quick] [--seeds 5] [--flaml-seconds 60] [--rivals NAME ...]

Each case is a training moment and the deals open after it: won in the period, or not (one still open was not won)?
The rivals get every feature the model gets, of the same snapshots, and the label; snapshots whose period had not ended
at the training moment have no label yet and are left out for them. They run in an environment of their own, made at
first in .venv-rivals from benchmarks/rivals/requirements.txt. Differences come with a 95 % interval over deals and
weeks. Prints Markdown; exit 1 if a rival or baseline is better than the model by an interval that excludes zero.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from benchmarks.judging import card, difference
from benchmarks.rival_cases import CASES, FUTURES, Split, splits_of
from benchmarks.truth import bin_error, cross_entropies, skill
from training.metrics import Difference, log_losses

HERE = Path(__file__).parent / "rivals"
ENVIRONMENT = HERE.parents[1] / ".venv-rivals"
RIVALS = ("xgboost", "xgboost_stopped", "catboost", "catboost_stopped", "histgb", "histgb_stopped", "flaml")
NOT_JUDGED = ("part", "deal_id", "week", "won", "won_of")
MODEL = "model"


@dataclass(frozen=True)
class Result:
    """A split after everybody spoke: `judged` has a column of probabilities by name; told is what the tool says."""

    part: str
    judged: pd.DataFrame
    seconds: dict[str, float]
    told: list[str]
    learned_from: int


def main() -> int:
    """Print a table for each case; exit 1 if somebody is better anywhere."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", nargs="*", choices=CASES, default=CASES)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--quick", action="store_true", help="one seed, ten seconds for FLAML")
    arguments.add_argument("--flaml-seconds", type=float, default=60.0)
    arguments.add_argument("--keep", type=Path, help="folder of what was measured before, which is not measured again")
    arguments.add_argument("--rivals", nargs="*", choices=RIVALS, default=RIVALS, help="none: the baselines alone")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.seeds, chosen.flaml_seconds = 1, 10.0
    python = make_environment() if chosen.rivals else Path()
    better = []
    for case in chosen.only:
        results = []
        for part, make in splits_of(case, seeds=chosen.seeds).items():
            kept = chosen.keep / f"{case}-{part.replace(' ', '-')}.json" if chosen.keep else None
            result = (
                read_result(kept)
                if kept and kept.is_file()
                else measure(make(), chosen.rivals, python, chosen.flaml_seconds)
            )
            if kept:
                kept.write_text(json.dumps(asdict(result) | {"judged": result.judged.to_dict("list")}))
            results.append(result)
            print(f"{case}, {part}: {result.learned_from:,} rows to learn from", file=sys.stderr, flush=True)
        better += list(report(case, results)) if results else []
    nobody = "\nNobody is better than the model by an interval that excludes zero."
    print("\n".join(["\nBetter than the model:", *(f"- {each}" for each in better)]) if better else nobody, flush=True)
    return int(bool(better))


def read_result(kept: Path) -> Result:
    """What was measured before."""
    stored = json.loads(kept.read_text())
    return Result(**stored | {"judged": pd.DataFrame(stored["judged"])})


def make_environment() -> Path:
    """The rivals' python; made and filled if it is not there, anew if the requirements changed."""
    python, stamp, requirements = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "made-from", HERE / "requirements.txt"
    if not stamp.is_file() or stamp.read_text() != requirements.read_text():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "-r", str(requirements)], check=True)
        stamp.write_text(requirements.read_text())
    return python


def measure(split: Split, rivals: Sequence[str], python: Path, flaml_seconds: float) -> Result:
    """What everybody says of a split, and how long each learned."""
    said, seconds = {}, dict(split.seconds)
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with TemporaryDirectory() as folder:
        split.learn.to_parquet(Path(folder) / "learn.parquet")
        split.test.drop(columns="deal_id").to_parquet(Path(folder) / "test.parquet")
        for name in rivals:
            command = [str(python), str(HERE / "learn.py"), name, folder, "--seconds", str(flaml_seconds)]
            subprocess.run(command, check=True, env=one_thread, stdout=subprocess.DEVNULL)
            said[name] = pd.read_parquet(Path(folder) / f"{name}.parquet")["probability"].to_numpy(dtype=float)
            seconds[name] = json.loads((Path(folder) / f"{name}.json").read_text())["seconds"]
    return Result(split.part, split.judged.assign(part=split.part, **said), seconds, list(split.told), len(split.learn))


def report(case: str, results: list[Result]) -> Iterator[str]:
    """Print a case's table; yields whoever is better than the model by an interval that excludes zero, and where."""
    judged = pd.concat([result.judged for result in results], ignore_index=True)
    names = [name for name in judged if name not in NOT_JUDGED]
    rows = [row(judged, name, results) for name in names]
    deals = judged["part"] + judged["deal_id"]
    print(f"\n### {case}\n")
    print(f"{len(judged):,} snapshots of {deals.nunique():,} deals, {judged['won'].mean():.3f} won in the period.\n")
    print("\n".join(f"- {result.part}: {sentence}" for result in results for sentence in result.told), "\n")
    print(as_markdown(rows), flush=True)
    for name in names[1:]:
        each = against(judged, name)
        if each.low > 0:
            yield f"{name} on {case}, all together: {told_of(each)}"
        if len(results) > 1 and "won_of" in judged:
            for part, its in judged.groupby("part"):
                alone = against(its, name)
                if alone.low > 0:
                    yield f"{name} on {case}, {part}: {told_of(alone)}"


def row(judged: pd.DataFrame, name: str, results: list[Result]) -> dict[str, str]:
    """A forecaster's line of the table."""
    probability, won = judged[name].to_numpy(dtype=float), judged["won"].to_numpy()
    line = {"": name, **card(probability, won, (judged["part"] + judged["deal_id"]).to_numpy(dtype=object))}
    if "won_of" in judged:
        truth = judged["won_of"].to_numpy()
        line["skill"] = f"{skill(probability, truth, FUTURES):.3f}"
        line["bin error"] = f"{bin_error(probability, truth, FUTURES):.3f}"
    line["model minus it (95 %)"] = "" if name == MODEL else told_of(against(judged, name))
    seconds = [result.seconds[name] for result in results if name in result.seconds]
    line["seconds"] = f"{np.mean(seconds):.1f}" if seconds else ""
    return line


def against(judged: pd.DataFrame, name: str) -> Difference:
    """The model's loss less another's: cross-entropy to the truth where it is known, else log loss."""
    losses = {}
    for each in (MODEL, name):
        said = judged[each].to_numpy(dtype=float)
        if "won_of" in judged:
            losses[each] = cross_entropies(said, judged["won_of"].to_numpy() / FUTURES)
        else:
            losses[each] = log_losses(said, judged["won"].to_numpy())
    deals = (judged["part"] + judged["deal_id"]).to_numpy(dtype=object)
    weeks = (judged["part"] + judged["week"].astype(str)).to_numpy(dtype=object)
    # Folds have no weeks, only deals.
    return difference(losses[MODEL], losses[name], deals, weeks if judged["week"].any() else np.zeros(len(judged)))


def told_of(each: Difference) -> str:
    """A difference with its interval."""
    return f"{each.value:+.4f} [{each.low:+.4f}, {each.high:+.4f}]"


def as_markdown(rows: list[dict[str, str]]) -> str:
    """A Markdown table of rows with the same keys."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(each.values()) for each in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
