import pandas as pd
import pytest

from training import tracking

AT = pd.Timestamp("2026-01-05", tz="UTC")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    for version in ("20260101-aaaaaaaa", "20260105-bbbbbbbb"):
        folder = workspace / "bundles" / version
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
        tracking.log_training(
            workspace,
            folder,
            params={"seed": 7},
            metrics={"model/log_loss": 0.5},
            artifacts={"report.json": "{}", "plot.png": b"png"},
            at=AT,
        )
    return workspace


def test_a_run_keeps_params_metrics_plots_and_the_bundle_itself(workspace):
    client = tracking._client(workspace)
    run = client.get_run(client.get_model_version("dealcast", "1").run_id)
    assert run.info.run_name == "20260101-aaaaaaaa"
    assert run.data.params == {"seed": "7"}
    assert run.data.metrics == {"model/log_loss": 0.5}
    assert {each.path for each in client.list_artifacts(run.info.run_id)} == {"bundle", "report.json", "plot.png"}
    assert [each.path for each in client.list_artifacts(run.info.run_id, "bundle")] == ["bundle/manifest.json"]


def test_the_registry_lives_inside_the_workspace(workspace):
    client = tracking._client(workspace)
    source = client.get_model_version("dealcast", "1").source
    assert source.startswith((workspace / "mlartifacts").as_uri())
    assert (workspace / "mlflow.db").is_file()


def test_a_new_champion_is_no_longer_the_challenger(workspace):
    tracking.set_alias(workspace, "champion", "20260101-aaaaaaaa")
    tracking.set_alias(workspace, "challenger", "20260105-bbbbbbbb")
    assert tracking.read_aliases(workspace) == {"champion": "20260101-aaaaaaaa", "challenger": "20260105-bbbbbbbb"}
    tracking.set_alias(workspace, "champion", "20260105-bbbbbbbb")
    assert tracking.read_aliases(workspace) == {"champion": "20260105-bbbbbbbb"}


def test_a_bundle_the_registry_never_saw_leaves_it_alone(workspace):
    before = tracking.read_aliases(workspace)
    tracking.set_alias(workspace, "champion", "20250101-cccccccc")
    assert tracking.read_aliases(workspace) == before
