"""The API does what its OpenAPI description says, whatever is sent (schemathesis)."""

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from ser.serve.limits import Limits
from tests.ser.serve.conftest import files, serving

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

BOUNDED = settings(
    max_examples=10,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def server(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("described")
    with serving(small.p, folder, Limits(max_mb=1, max_seconds=60), "geheim") as server:
        server.service.loading.result(60)
        yield server
        assert files(folder) == []


@pytest.fixture(scope="module")
def described(server, clip):
    """Return the description; what is sent as audio is sometimes audio."""
    headers = {"authorization": "Bearer geheim"}
    schema = httpx.get(server.url + "/openapi.json", headers=headers, timeout=60).json()
    for kind in ("audio/*", "application/octet-stream"):
        schemathesis.openapi.media_type(kind, strategies.just(clip.read_bytes()))
    loaded = schemathesis.openapi.from_dict(schema)
    loaded.config.update(base_url=server.url)

    @loaded.auth()
    class Token:
        def get(self, case, context):
            return headers["authorization"]

        def set(self, case, data, context):
            case.headers["authorization"] = data

    return loaded


@pytest.fixture(scope="module")
def clip(small):
    return small.audio / "u14.wav"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/predict"), ("GET", "/health"), ("GET", "/metrics")]
)
def test_every_answer_is_one_that_is_described(described, method, path):
    @BOUNDED
    @given(case=described[path][method].as_strategy())
    def holds(case):
        # bytes that are not audio, and audio without speech, agree with the description
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    holds()


def test_all_routes_are_tested(described):
    paths = {path: list(methods) for path, methods in described.raw_schema["paths"].items()}
    assert paths == {"/predict": ["post"], "/health": ["get"], "/metrics": ["get"]}


def test_metrics_are_text_and_errors_are_json_in_the_description(described):
    responses = described.raw_schema["paths"]["/metrics"]["get"]["responses"]
    assert list(responses["200"]["content"]) == ["text/plain"]
    assert all(
        list(r["content"]) == ["application/json"] for s, r in responses.items() if s != "200"
    )
    assert described.raw_schema["paths"]["/predict"]["post"]["security"] == [{"HTTPBearer": []}]
