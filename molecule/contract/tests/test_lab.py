"""lab/remove.yml against an engine that only records what is asked of it.

The machine's own engine may run a lab of somebody's: the command itself names the recording one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

NAMES = ("recorded-app1", "recorded-else")  # no lab has this prefix


class Engine(BaseHTTPRequestHandler):
    """Docker's API as far as lab/remove.yml asks it: two containers, of which nothing is ever removed."""

    removed: list[str]

    def do_GET(self) -> None:
        """Answer about containers and the network."""
        path = re.sub(r"^/v[\d.]+", "", self.path).partition("?")[0]
        containers = [{"Id": name, "Names": [f"/{name}"], "NetworkSettings": {}} for name in NAMES]
        self.answer(
            {
                "/version": {"ApiVersion": "1.44", "Version": "25.0"},
                "/containers/json": [] if "flaskfleet-lab" in self.path else containers,
                "/networks": [],
            }.get(path, {"Id": path.split("/")[-2], "Image": "", "State": {"Running": False}, "Config": {}})
        )

    def do_DELETE(self) -> None:
        """Record what is to be removed."""
        self.removed.append(self.path.partition("?")[0].rpartition("/")[2])
        self.answer({})

    def answer(self, value: object) -> None:
        """Answer with JSON."""
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Keep quiet."""


@pytest.fixture
def engine() -> Iterator[ThreadingHTTPServer]:
    """The engine; its handler's ``removed`` has what was asked of it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Recorder", (Engine,), {"removed": []})) as server:
        Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def test_only_containers_that_are_there_are_removed_and_named(run, engine: ThreadingHTTPServer, tmp_path: Path) -> None:
    settings = {"lab_prefix": "recorded", "lab_cache": str(tmp_path / "keys"), "lab_network": "flaskfleet-lab"}
    (tmp_path / "keys").mkdir()
    hosts = dict.fromkeys(("app1", "app2", "lb1"))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"containers": {"hosts": hosts, "vars": settings}}))
    recording = f"DOCKER_HOST=tcp://127.0.0.1:{engine.server_port}"
    done = run("env", recording, "ansible-playbook", "lab/remove.yml", "-i", f"{tmp_path}/hosts.yml")
    assert done.returncode == 0, done.stdout
    assert engine.RequestHandlerClass.removed == ["recorded-app1"]
    assert re.findall(r"\b(?:app|lb)\d", done.stdout) == ["app1"]
    assert not (tmp_path / "keys").exists()
