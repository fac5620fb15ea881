"""The app `counter` of the tests under load, asked through Flask's test client."""

from __future__ import annotations

import hashlib
import importlib
import os
import time
from pathlib import Path
from types import ModuleType

import pytest
from flask.testing import FlaskClient

FOLDER = Path(__file__).parents[2] / "molecule" / "shared" / "apps" / "counter"


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The app's package in the environment of a release."""
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setenv("FLASKFLEET_SHARED", str(tmp_path))
    monkeypatch.setenv("FLASKFLEET_RELEASE", "012345678901")
    return importlib.import_module("counter")


@pytest.fixture
def client(counter: ModuleType) -> FlaskClient:
    """A client of the app."""
    return counter.create_app().test_client()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The app's own record."""
    return tmp_path / "requests.log"


def test_get_is_recorded(client: FlaskClient, log: Path) -> None:
    answer = client.get("/work/17")
    assert answer.json == {"number": 17, "release": "012345678901", "pid": os.getpid()}
    assert log.read_text() == "17 GET\n"


def test_post_answers_the_hash_of_its_body(client: FlaskClient, log: Path) -> None:
    answer = client.post("/work/18", data=b"some bytes")
    assert answer.json["sha256"] == hashlib.sha256(b"some bytes").hexdigest()
    assert answer.json["number"] == 18
    assert log.read_text() == "18 POST\n"


def test_each_request_has_a_line(client: FlaskClient, log: Path) -> None:
    log.write_text("1 GET\n")
    client.get("/work/2")
    client.get("/work/2")
    client.post("/work/3")
    assert log.read_text() == "1 GET\n2 GET\n2 GET\n3 POST\n"


def test_record_is_opened_once(client: FlaskClient, log: Path) -> None:
    client.get("/work/1")
    before = sorted(os.listdir("/proc/self/fd"))
    client.get("/work/2")
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_sleep_comes_after_the_record(
    client: FlaskClient, counter: ModuleType, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[tuple[float, str]] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: slept.append((seconds, log.read_text())))
    assert client.get("/work/5?seconds=2.5").status_code == 200
    assert client.get("/work/6").status_code == 200
    assert slept == [(2.5, "5 GET\n"), (0, "5 GET\n6 GET\n")]


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_no_other_methods(client: FlaskClient, log: Path, method: str) -> None:
    assert client.open("/work/1", method=method).status_code == 405
    assert not log.exists()


def test_environment_is_shown(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTER_NAME", "a <value>\n'ü'")
    monkeypatch.delenv("COUNTER_NONE", raising=False)
    answer = client.get("/env/COUNTER_NAME")
    assert (answer.status_code, answer.text, answer.mimetype) == (200, "a <value>\n'ü'", "text/plain")
    assert client.get("/env/COUNTER_NONE").status_code == 404


def test_health_and_style(client: FlaskClient, log: Path) -> None:
    assert (client.get("/healthz").status_code, client.get("/healthz").text) == (200, "ok")
    assert client.get("/static/counter.css").mimetype == "text/css"
    assert not log.exists()


def test_requirements_are_those_of_the_reference_app() -> None:
    reference = FOLDER.parents[3] / "files" / "app" / "requirements.txt"
    assert (FOLDER / "requirements.txt").read_bytes() == reference.read_bytes()
