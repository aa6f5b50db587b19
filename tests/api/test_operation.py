"""Health, metrics and the request log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.api.conftest import Serve, ServeProcess, Server
    from tests.command_line import Runner


def samples(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Scrape the metrics, by the parser of Prometheus's own library."""
    answer = server.get("/metrics")
    assert answer.headers["Content-Type"] == CONTENT_TYPE_LATEST
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_metrics_show_production_and_runs(trained: str, serve: Serve, retrainer: Runner) -> None:
    server = serve()
    seen = samples(server)
    assert seen[of("retrainer_database_up")] == 1
    labels = {"model_type": "timing", "version_id": trained, "algorithm": "baseline"}
    assert seen[of("retrainer_production_info", **labels)] == 1
    assert seen[of("retrainer_last_run_failed", model_type="timing")] == 0
    assert seen[of("retrainer_run_running", model_type="timing")] == 0
    assert seen[of("retrainer_automatic_promotion_held", model_type="timing")] == 0
    assert of("retrainer_last_completed_run_timestamp_seconds", model_type="timing") in seen
    assert retrainer("hold", "timing").code == 0
    assert retrainer("train", "timing", RETRAINER_RETRAINING__MIN_TRAINING_SAMPLES="100000").code == 3
    seen = samples(server)
    assert seen[of("retrainer_automatic_promotion_held", model_type="timing")] == 1
    assert seen[of("retrainer_last_run_failed", model_type="timing")] == 1
    assert seen[of("retrainer_last_run_failed", model_type="content")] == 0


def test_requests_are_counted_by_route_and_not_by_path(trained: str, serve: Serve) -> None:
    server = serve()
    for name in ("a", "b", "c"):
        server.get(f"/models/versions/{name}")
        server.get(f"/{name}")
    server.request("PUT", "/models/versions")
    seen = samples(server)
    route = {"method": "GET", "route": "/models/versions/{version_id}", "status": "404"}
    assert seen[of("retrainer_http_requests_total", **route)] == 3
    assert seen[of("retrainer_http_requests_total", method="GET", route="none", status="404")] == 3
    assert seen[of("retrainer_http_requests_total", method="other", route="/models/versions", status="405")] == 1
    assert seen[of("retrainer_http_request_duration_seconds_count", route="none")] == 3


def test_health_does_not_need_a_version(bad_input_server: Server) -> None:
    assert bad_input_server.get("/health/live").json() == {"status": "live"}
    assert bad_input_server.get("/health/ready").json() == {"status": "ready"}


def test_each_request_is_one_log_line_that_cannot_be_forged(serve_process: ServeProcess, folder: object) -> None:
    server = serve_process()
    server.get("/models/versions?limit=3")
    server.get("/models/versions/x%0aGET%20/forged%20200")
    server.stop()
    requests = [line for line in server.lines if line.startswith("GET ")]
    assert requests[0].startswith("GET /models/versions 200 ")
    assert requests[1].startswith("GET /models/versions/x%0aGET%20/forged%20200 404 ")
    assert len(requests) == 2
