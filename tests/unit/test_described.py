"""The OpenAPI description names every route of the API, with examples, scopes, and failures in one shape."""

from pathlib import Path

import pytest

from models.forecaster import FORECAST_COLUMNS
from serving.answers import ForecastNode, Score
from serving.api import create_api
from serving.schema import SCORE_COLUMNS


@pytest.fixture(scope="module")
def api():
    return create_api(Path("workspace"), "sqlite://")


def test_every_route_is_described_with_its_scope_and_its_failures(api):
    document = api.openapi()
    assert set(document["paths"]) == {route.path_format for route in api.routes if route.include_in_schema}
    failure = {"$ref": "#/components/schemas/Failure"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"] and "503" in operation["responses"]
            if path not in ("/livez", "/readyz"):
                assert operation["security"] and operation["x-scope"] and "401" in operation["responses"]
            for status, told in operation["responses"].items():
                assert int(status) < 400 or told["content"]["application/json"]["schema"] == failure


def test_every_body_has_an_example(api):
    schemas = api.openapi()["components"]["schemas"]
    bodies = [name for name in schemas if name.endswith("Request")]
    assert len(bodies) == 7 and all(schemas[name]["examples"] for name in bodies)


def test_scores_and_forecasts_are_described_as_they_are():
    assert tuple(Score.model_fields) == SCORE_COLUMNS
    assert set(ForecastNode.model_fields) == set(FORECAST_COLUMNS)
