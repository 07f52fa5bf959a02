"""The floors of the house: who may import whom, and that each package is ours."""

import ast
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]

MAY_IMPORT = {
    "crm": set(),
    "ledger": set(),
    "features": {"crm", "ledger"},
    "models": {"features", "crm", "ledger"},
    "training": {"models", "features", "crm", "ledger"},
    "serving": {"models", "features", "crm", "ledger"},
    "dealcast": {"training", "serving", "models", "features", "crm", "ledger"},
}
"""Each package and the packages below it."""

ONLY_IN = {
    "duckdb": ("features/engines/on_duckdb.py", "features/engines/kept.py"),
    "pyspark": ("features/engines/on_spark.py",),
    "sqlglot": ("features/engines/on_spark.py",),
    "deltalake": ("crm/store.py", "crm/thinning.py"),
    "sqlalchemy": ("ledger/", "crm/connectors/warehouse.py"),
    "alembic": ("ledger/",),
    "mlflow": ("training/tracking.py",),
    "bentoml": ("serving/service.py",),
    "jinja2": ("serving/pages/frame.py",),
    "babel": ("serving/pages/words.py",),
    "opentelemetry": ("serving/traces.py",),
    "httpx": ("crm/connectors/transport.py", "serving/oidc.py"),
    "joserfc": ("serving/oidc.py",),
    "requests": ("crm/connectors/salesforce_client.py",),
    "hubspot": ("crm/connectors/hubspot_client.py",),
    "msal": ("crm/connectors/dynamics_login.py",),
    "simple_salesforce": ("crm/connectors/salesforce_client.py",),
}
"""Each outside system and the one place that knows it."""

NOT_WHERE_SERVING_RUNS = {"mlflow", "sklearn", "optuna", "matplotlib", "pyspark", "sqlglot"}
"""What comes with the extras `train` and `spark`: the packages below training may not need it at import."""

MODULES = sorted(path for package in MAY_IMPORT for path in (PROJECT / package).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def imports(path: Path, *, at_import_only: bool = False) -> Iterator[str]:
    """The dotted names that a module imports; `at_import_only` leaves out those in functions and for types alone."""
    tree = ast.parse(path.read_text("utf-8"))
    inside = {
        id(node)
        for later in ast.walk(tree)
        if isinstance(later, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(later, ast.If) and ast.unparse(later.test) == "TYPE_CHECKING")
        for node in ast.walk(later)
    }
    for node in ast.walk(tree):
        if at_import_only and id(node) in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}, line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_named(dotted: str) -> Path | None:
    """The file of ours that a dotted name, or the part of it that is a module, stands for."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        place = PROJECT.joinpath(*parts[:length])
        for candidate in (place.with_suffix(".py"), place / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_from_the_floors_below(path: Path):
    own = path.relative_to(PROJECT).parts[0]
    used = {dotted.split(".")[0] for dotted in imports(path)} & MAY_IMPORT.keys()
    assert used <= MAY_IMPORT[own] | {own}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_an_outside_system_is_imported_in_its_one_place(path: Path):
    for dotted in imports(path):
        places = ONLY_IN.get(dotted.split(".")[0])
        assert places is None or name_of(path).startswith(places), f"{dotted} belongs in {places}"


@pytest.mark.parametrize("path", [p for p in MODULES if name_of(p).split("/")[0] != "training"], ids=name_of)
def test_serving_needs_nothing_that_only_training_brings(path: Path):
    used = {dotted.split(".")[0] for dotted in imports(path, at_import_only=True)}
    assert not used & NOT_WHERE_SERVING_RUNS


def test_no_module_imports_itself_round_a_corner():
    needs = defaultdict(set)
    for path in MODULES:
        needs[path] = {found for dotted in imports(path) if (found := module_named(dotted)) and found != path}
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, "a cycle: " + " -> ".join(map(name_of, (*trail[trail.index(path) :], path)))
        if path not in done:
            for needed in needs[path]:
                visit(needed, (*trail, path))
            done.add(path)

    for path in MODULES:
        visit(path, ())


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_is_ours_and_not_another_of_that_name(package: str):
    found = importlib.util.find_spec(package)
    assert found is not None and Path(found.origin).is_relative_to(PROJECT)


def test_every_folder_with_code_is_a_floor():
    folders = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert folders - {"tests", "benchmarks"} == MAY_IMPORT.keys()
    assert not (PROJECT / "src").exists()
