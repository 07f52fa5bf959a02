"""What is shipped to serve: it starts without what training needs, as nobody special, from files that are there."""

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]

WHERE_SERVING_RUNS = """
import importlib, pkgutil, re, sys
from importlib.metadata import packages_distributions
from pathlib import Path

plain = lambda name: re.sub(r"[-_.]+", "-", name).lower()
lines = Path("requirements/serve.txt").read_text().splitlines()
there = {"dealcast", "pip", "setuptools", *(plain(line.split("==")[0]) for line in lines if "==" in line)}
brought_by = packages_distributions()
absent = {module for module, names in brought_by.items() if not {plain(name) for name in names} & there}
assert {"mlflow", "sklearn", "optuna", "pyspark", "hypothesis", "pytest"} <= absent, absent

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not where serving runs", name=name)

sys.meta_path.insert(0, Refusing())
import dealcast.cli, serving.service
for package in ("crm", "ledger", "models", "serving"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.startswith("crm.connectors."):  # those of extras come with them
            importlib.import_module(found.name)
"""


def test_the_service_and_all_it_is_made_of_start_with_what_its_image_installs_and_nothing_else(tmp_path: Path):
    command = [sys.executable, "-c", WHERE_SERVING_RUNS]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env={"HOME": str(tmp_path)})
    assert run.returncode == 0, run.stderr


def test_what_the_serving_image_installs_has_no_training_library():
    names = {line.split("==")[0] for line in (PROJECT / "requirements" / "serve.txt").read_text().splitlines()}
    assert {"bentoml", "psycopg", "opentelemetry-exporter-otlp-proto-http"} <= names
    assert not names & {"mlflow", "mlflow-skinny", "scikit-learn", "optuna", "pyspark", "shap"}


def test_the_image_runs_as_nobody_special_is_checked_and_copies_what_exists():
    lines = [line for line in (PROJECT / "Dockerfile").read_text().splitlines() if line and line[0] not in "# "]
    last = max(place for place, line in enumerate(lines) if line.startswith("FROM"))
    users = [line.split()[1] for line in lines[last:] if line.startswith("USER")]
    assert users == ["dealcast"] and any(line.startswith("HEALTHCHECK") for line in lines[last:])
    assert all(":" in line.split()[1] for line in lines if line.startswith("FROM"))
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (PROJECT / source).exists() and f"!{source}" in ignored, source


def test_compose_keeps_to_loopback_and_asks_for_a_password():
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    assert services.keys() == {"dealcast", "postgres", "mlflow"}
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert "privileged" not in service
    assert ":?" in services["dealcast"]["environment"]["DEALCAST_LEDGER_URL"]
    assert ":?" in services["postgres"]["environment"]["POSTGRES_PASSWORD"]


def test_a_bento_is_made_of_our_packages_but_training():
    build = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["bentoml"]["build"]
    assert build["service"] == "serving.service:Dealcast"
    assert {"crm/", "ledger/", "features/", "models/", "serving/"} <= set(build["include"])
    assert all((PROJECT / each).exists() for each in build["include"])
