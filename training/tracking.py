"""MLflow: every training run with its numbers, plots and bundle, and the registered model `dealcast` with its aliases.

The registry mirrors what the bundles folder says, so that runs can be compared; serving never asks it.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# Telemetry is decided when MLflow is imported.
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunInfo
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME

MODEL = "dealcast"
EXPERIMENT = "dealcast"
ACCURACY = "dealcast forecast accuracy"
"""The experiment that holds, period by period, how right everybody was."""
CHAMPION, CHALLENGER = "champion", "challenger"
_METRICS_AT_ONCE = 1000


@dataclass(frozen=True)
class LoggedRun:
    """Where a training run went: its MLflow run and the registered version that holds the bundle."""

    run_id: str
    version: str


@dataclass(frozen=True)
class Point:
    """A value of a metric at a step."""

    name: str
    value: float
    step: int


@dataclass(frozen=True)
class ChildRun:
    """A run that belongs to a training, such as a tuning trial."""

    name: str
    params: Mapping[str, object]
    metrics: Mapping[str, float]


def log_training(
    workspace: Path,
    bundle_folder: Path,
    *,
    params: Mapping[str, object],
    metrics: Mapping[str, float],
    artifacts: Mapping[str, str | bytes],
    at: pd.Timestamp,
    children: Sequence[ChildRun] = (),
) -> LoggedRun:
    """Log one finished training and register its bundle as a new version of `dealcast`.

    Parameters
    ----------
    bundle_folder : the written bundle; its name is the model version, its files become the version's artifacts.
    params, metrics : the run's; metric names may hold letters, digits, `_`, `-`, `.`, space and `/`.
    artifacts : further files by name: reports as text, plots as PNG bytes.
    at : the moment of training.
    children : logged as runs below this one.
    """
    client = _client(workspace)
    millis = int(at.timestamp() * 1000)
    run = client.create_run(_experiment_id(client, workspace), start_time=millis, run_name=bundle_folder.name)
    run_id = run.info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), millis, 0) for name, value in metrics.items()],
        params=[Param(name, str(value)) for name, value in params.items()],
    )
    client.log_artifacts(run_id, str(bundle_folder), "bundle")
    for name, content in artifacts.items():
        _log_file(client, run_id, name, content)
    _ensure_model(client)
    registered = client.create_model_version(
        MODEL, source=f"{run.info.artifact_uri}/bundle", run_id=run_id, tags={"model_version": bundle_folder.name}
    )
    for child in children:
        _log_child(client, run.info, child, millis)
    client.set_terminated(run_id)
    return LoggedRun(run_id, str(registered.version))


def log_once(
    workspace: Path, name: str, *, params: Mapping[str, object], points: Sequence[Point], at: pd.Timestamp
) -> str | None:
    """Log a run of the experiment of accuracies, unless there is one of this name.

    Returns
    -------
    The id of the new run; None where it was there already.
    """
    client = _client(workspace)
    experiment = _experiment_id(client, workspace, ACCURACY)
    if client.search_runs([experiment], f"tags.`{MLFLOW_RUN_NAME}` = '{name}' AND attributes.status = 'FINISHED'"):
        return None
    millis = int(at.timestamp() * 1000)
    run_id = str(client.create_run(experiment, start_time=millis, run_name=name).info.run_id)
    metrics = [Metric(each.name, float(each.value), millis, each.step) for each in points]
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
    client.log_batch(run_id, params=[Param(name, str(value)) for name, value in params.items()])
    client.set_terminated(run_id)
    return run_id


def log_report(
    workspace: Path, name: str, *, params: Mapping[str, object], artifacts: Mapping[str, str | bytes], at: pd.Timestamp
) -> str:
    """Log a run of the experiment of accuracies that holds files (text, or PNG bytes of a plot); returns its id."""
    client = _client(workspace)
    experiment = _experiment_id(client, workspace, ACCURACY)
    run_id = str(client.create_run(experiment, start_time=int(at.timestamp() * 1000), run_name=name).info.run_id)
    client.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
    for file, content in artifacts.items():
        _log_file(client, run_id, file, content)
    client.set_terminated(run_id)
    return run_id


def set_alias(workspace: Path, alias: str, model_version: str) -> None:
    """Point `champion` or `challenger` at the newest registered version of a bundle.

    A new champion is no longer the challenger. A bundle that was never registered here (a restored folder, say)
    leaves the registry as it is: what serves is decided in the bundles folder.
    """
    client = _client(workspace)
    _ensure_model(client)
    versions = client.search_model_versions(f"name='{MODEL}'")
    numbers = [int(each.version) for each in versions if each.tags.get("model_version") == model_version]
    if not numbers:
        return
    number = str(max(numbers))
    client.set_registered_model_alias(MODEL, alias, number)
    challenger = client.get_registered_model(MODEL).aliases.get(CHALLENGER)
    if alias == CHAMPION and str(challenger) == number:
        client.delete_registered_model_alias(MODEL, CHALLENGER)


def read_aliases(workspace: Path) -> dict[str, str]:
    """The bundle behind each alias: model version by alias name."""
    client = _client(workspace)
    _ensure_model(client)
    aliases = client.get_registered_model(MODEL).aliases
    return {
        alias: client.get_model_version(MODEL, str(number)).tags["model_version"] for alias, number in aliases.items()
    }


def _client(workspace: Path) -> MlflowClient:
    for noisy in ("alembic", "mlflow"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    address = f"sqlite:///{(workspace / 'mlflow.db').resolve()}"
    return MlflowClient(tracking_uri=address, registry_uri=address)


def _experiment_id(client: MlflowClient, workspace: Path, name: str = EXPERIMENT) -> str:
    known = client.get_experiment_by_name(name)
    if known is not None:
        return str(known.experiment_id)
    return str(client.create_experiment(name, artifact_location=(workspace / "mlartifacts").resolve().as_uri()))


def _ensure_model(client: MlflowClient) -> None:
    try:
        client.get_registered_model(MODEL)
    except MlflowException:
        client.create_registered_model(
            MODEL, description="Win, loss, amount, creation and revenue models of one bundle."
        )


def _log_child(client: MlflowClient, parent: RunInfo, child: ChildRun, millis: int) -> None:
    tags = {MLFLOW_PARENT_RUN_ID: parent.run_id}
    run_id = client.create_run(parent.experiment_id, start_time=millis, tags=tags, run_name=child.name).info.run_id
    client.log_batch(
        run_id,
        metrics=[Metric(name, float(value), millis, 0) for name, value in child.metrics.items()],
        params=[Param(name, str(value)) for name, value in child.params.items()],
    )
    client.set_terminated(run_id)


def _log_file(client: MlflowClient, run_id: str, name: str, content: str | bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        client.log_artifact(run_id, str(path))
