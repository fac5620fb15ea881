"""Secrets appear in no output, log or file. A refused release does not change the live one's, also after a reboot."""

from __future__ import annotations

import base64
import json
import re
import struct
import subprocess
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CANARIES, NAMES, PROJECT, ask, eventually, host, play, watched

both = pytest.mark.parametrize("name", NAMES)
OLD = {"variable": "canary-of-a-variable", "file": "canary-of-a-file"}
NEW = {
    "secret_env": {"SECRET": "canary-of-a-new-variable"},
    "secret_files": {"instance/config.py": "KEY = 'canary-of-a-new-file'\n"},
}


def found_canaries(text: str) -> list[str]:
    """The canaries in a text, also in base64, where a canary begins at any byte."""
    forms = {canary: {canary, *encoded(canary)} for canary in (*CANARIES, "canary-of-a-new")}
    return [canary for canary, words in forms.items() if any(word in text for word in words)]


def encoded(canary: str) -> list[str]:
    """What a text with a canary has of it in base64."""
    found = (base64.b64encode(b"\0" * skip + canary.encode()).decode() for skip in range(3))
    return [text[(0, 2, 3)[skip] : -4] for skip, text in enumerate(found)]


def test_canaries_are_found() -> None:
    text = json.dumps({"KEY": "canary-of-a-file", "x": 1})
    for skip in range(3):
        assert "canary-of-a-file" in found_canaries(base64.b64encode((" " * skip + text).encode()).decode())
    assert found_canaries(base64.b64encode(b"what is no secret").decode()) == []


RUNS = {
    "check": ("site.yml", "--check", "--diff", "-vvv"),
    "site": ("site.yml", "--diff", "-vvv"),
    "deploy, check": ("playbooks/deploy.yml", "--check", "--diff", "-vvv"),
    "deploy": ("playbooks/deploy.yml", "--diff", "-vvv"),
    "restart": ("playbooks/restart.yml", "--diff", "-vvv"),
    "status": ("playbooks/status.yml", "--diff", "-vvv"),
}


@pytest.fixture(scope="module", params=RUNS)
def run(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The most talkative runs with changed secrets, and what processes showed meanwhile."""
    playbook, *arguments = RUNS[request.param]
    with watched() as found:
        done = play(playbook, *arguments, changed_apps={"neighbour": {"env": {"BUILD": uuid.uuid4().hex}}})
    assert done.returncode == 0, done.stdout
    yield done.stdout, found


def test_output_of_a_run_has_no_secret(run: tuple[str, dict[str, Any]]) -> None:
    output, seen = run
    assert "neighbour" in output
    assert found_canaries(output) == []
    assert [line for name in NAMES for line in seen[name]["told"]] == []


@both
def test_logs_of_the_host_have_no_secret(name: str) -> None:
    logs = host(name).run("journalctl --no-pager -o verbose; cat /var/log/*.log /var/log/syslog").stdout
    assert "ansible-app_rollout" in logs
    assert found_canaries(logs) == []


@both
@pytest.mark.parametrize(
    "find",
    ["find / -xdev -type f -perm -o=r", "find /srv /var /run /tmp -type f -not -path '*/secrets/*'"],
    ids=["that everybody reads", "beside the sets of secrets"],
)
def test_no_file_has_a_secret(name: str, find: str) -> None:
    grep = f"{find} -exec grep -lE 'canary-of-(a-|mallory)' {{}} +"
    assert host(name).run(grep).stdout == ""


def test_other_users_of_the_controller_can_read_no_secret(tmp_path: Path) -> None:
    """In what runs write: the inventory itself is the scenario's."""
    since = tmp_path / "since"
    since.touch()
    for playbook in ("site.yml", "playbooks/status.yml"):
        assert play(playbook).returncode == 0
    places = [PROJECT / ".cache", PROJECT / "reports", Path.home() / ".ansible", Path("/tmp"), Path("/var/tmp")]
    written = ["find", *filter(Path.exists, places), "-xdev", "-type", "f", "-perm", "-o=r", "-newer", since]
    assert subprocess.run(written, capture_output=True, text=True, check=False).stdout
    grep = [*written, "-exec", "grep", "-lE", "canary-of-(a-|mallory)", "{}", "+"]
    assert subprocess.run(grep, capture_output=True, text=True, check=False).stdout == ""


# Refused, then rebooted


def library(needed: str) -> bytes:
    """A shared library (ELF) that needs another one, and has nothing in it."""
    strings = b"\0" + needed.encode() + b"\0"
    base = 64 + 2 * 56
    table = base + 16 * 6
    entries = [
        (1, 1),
        (5, table),
        (10, len(strings)),
        (6, table + 32),
        (11, 24),
        (0, 0),
    ]  # NEEDED, STRTAB, STRSZ, SYMTAB
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    body = dynamic + strings.ljust(32, b"\0") + bytes(24)
    size = base + len(body)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 6, 0, 0, 0, size, size, 4096)
    return header + load + struct.pack("<IIQQQQQQ", 2, 6, base, base, base, len(dynamic), len(dynamic), 8) + body


def lacking(folder: Path) -> dict[str, Any]:
    """Options of an app that requires a wheel that was compiled for the fleet, and lacks a library."""
    info = "lacking-1.0.dist-info"
    tag = "py3-none-linux_x86_64"
    files = {
        "lacking.so": library("libnowhere.so.1"),
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: lacking\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: flaskfleet\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(),
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD")).encode()
    with zipfile.ZipFile(folder / f"lacking-1.0-{tag}.whl", "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return {"wheels": [str(folder)], "further_requirements": ["lacking==1.0"]}


REFUSED: dict[str, tuple[Any, str]] = {
    "preflight": ({"processes": "many"}, "processes"),
    "build": ({"further_requirements": ["no-such-distribution-as-this==1"]}, "no-such-distribution-as-this"),
    "stage": (lacking, "libnowhere.so.1"),
    "warm": ({"env": {"FAILS": "always"}}, "/healthz answered 500"),
    "hook": ({"hooks": {"before_switch": ["sh -c 'exit 3'"]}}, "exit 3"),
    "canary": ({"env": {"FAILS": "live"}}, "failed on the canary: "),
    "confirm": ({"env": {"FAILS": "second"}}, "failed after the switch: /healthz answered 500"),
}


def current(name: str) -> str:
    return host(name).check_output("readlink /srv/neighbour/current")


def serves(name: str) -> dict[str, str]:
    status, _, body = ask(name, "/secrets").partition(" ")
    return json.loads(body) if status == "200" else {}


def started(name: str) -> str:
    """When a host was started, as the Docker engine tells it."""
    argv = ["docker", "inspect", "--format", "{{.State.StartedAt}}", f"molecule-{name}"]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module", params=REFUSED)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A deploy with other secrets is refused, and both hosts are rebooted; what was live on each."""
    options, words = REFUSED[request.param]
    options = options(tmp_path_factory.mktemp("wheel")) if callable(options) else options
    before = {name: current(name) for name in NAMES}
    done = play("playbooks/deploy.yml", "-e", "app=neighbour", changed_apps={"neighbour": {**options, **NEW}})
    assert done.returncode != 0, done.stdout
    assert words in re.sub(r"\s+", " ", done.stdout), done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    since = {name: started(name) for name in NAMES}
    for name in NAMES:
        host(name).run("systemctl reboot")
    for name in NAMES:
        eventually(lambda name=name: started(name) != since[name] and host(name).run("true").rc == 0, "a reboot")
    return before


@both
def test_refused_release_leaves_the_live_one_its_secrets_after_a_reboot(live: dict[str, str], name: str) -> None:
    eventually(lambda: serves(name), "the app")
    assert serves(name) == OLD
    assert current(name) == live[name]
    config = "/srv/neighbour/current/src/instance/config.py"
    assert host(name).check_output("runuser -u neighbour -- cat %s", config) == "KEY = 'canary-of-a-file'"
