"""Where alerts go: the example configuration in a real Alertmanager."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.boards import servers

CONFIG = yaml.safe_load((servers.FOLDER / "alertmanager.yaml").read_text())


@contextmanager
def receive() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a webhook; give its address and the messages that came."""
    messages: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", messages
        finally:
            server.shutdown()
            thread.join()


def post_alerts(alertmanager: servers.RunningServer, *alerts: dict[str, str]) -> None:
    """Send alerts as Prometheus does."""
    body = json.dumps([{"labels": labels} for labels in alerts]).encode()
    request = urllib.request.Request(f"{alertmanager.url}/api/v2/alerts", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert response.status == 200


def test_there_is_a_mail_and_a_webhook():
    """
    Both kinds of receiver are written out; the route names one that exists and disturbs nobody until it is chosen.
    """
    receivers = {one["name"]: one for one in CONFIG["receivers"]}

    assert receivers["mail"]["email_configs"][0]["smarthost"]
    assert receivers["webhook"]["webhook_configs"][0]["url"]
    assert receivers["both"].keys() == {"name", "email_configs", "webhook_configs"}
    assert receivers[CONFIG["route"]["receiver"]] == {"name": "nobody"}


def test_a_dead_portal_is_one_message(tmp_path: Path):
    """
    Three accounts of a portal that is down are one message, though their readings grow old too; another portal's is another.
    """
    failing = [
        {"alertname": "UtilityVisitsFailing", "severity": "warning", "account": name, "portal": portal}
        for name, portal in (("a", "fluvius"), ("b", "fluvius"), ("c", "fluvius"), ("d", "cem"))
    ]
    stale = [
        {"alertname": "UtilityReadingStale", "severity": "warning", "account": name, "usage_point": f"{name} {number}"}
        for name in "abcd"
        for number in range(3)
    ]
    with receive() as (url, messages), servers.run_alertmanager(tmp_path / "alertmanager", url) as alertmanager:
        post_alerts(alertmanager, *failing, *stale)
        servers.wait_until(lambda: len(messages) >= 2, "two messages")

    assert sorted((message["commonLabels"]["portal"], len(message["alerts"])) for message in messages) == [
        ("cem", 1),
        ("fluvius", 3),
    ]
