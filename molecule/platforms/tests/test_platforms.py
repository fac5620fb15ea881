"""What has to be compiled is compiled once per platform, and every other host gets what came out of that."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT
from faults import Play, eventually
from testinfra import get_host
from testinfra.host import Host

HOUSE = PROJECT / ".cache/molecule/platforms"
BUILDERS = {"debian-12-x86_64-cp311": "molecule-one", "debian-13-x86_64-cp313": "molecule-four"}
POOL = "/var/lib/flaskfleet/wheels"
ASK = """
import urllib.request
request = urllib.request.Request("http://127.0.0.1/healthz", headers={"Host": "native.example.lan"})
print(urllib.request.urlopen(request).read().decode())
"""


def on(name: str) -> Host:
    """A host of the scenario."""
    return get_host(f"ansible://{name}", ansible_inventory=os.environ["MOLECULE_INVENTORY_FILE"])


def sets(requirement: str) -> list[dict[str, Any]]:
    """The records of what a requirement has led to."""
    found = [json.loads(path.read_text()) for path in HOUSE.glob("*/*.json")]
    return [record for record in found if requirement in record["requirements"]]


def deploy(host: Host, **changed: Any) -> Play:
    """Deploy native with some options changed; the run, at its end."""
    play = Play("playbooks/deploy.yml", host, variables={"changed_apps": {"native": changed}})
    play.wait()
    return play


def live(host: Host) -> str:
    return host.check_output("readlink /srv/native/current")


def answer(host: Host) -> dict[str, str]:
    """What the app says."""
    return json.loads(host.check_output("python3 -c %s", ASK))


@pytest.mark.parametrize(("requirement", "project"), [("uwsgi==", "uwsgi"), ("bitarray==", "bitarray")])
def test_each_platform_has_compiled_once(requirement: str, project: str) -> None:
    records = sets(requirement)
    assert {record["platform"].partition("/")[0]: record["host"] for record in records} == BUILDERS
    assert len(records) == 2
    for record in records:
        (compiled,) = [wheel["file"] for wheel in record["wheels"] if wheel["compiled"]]
        assert compiled.lower().startswith(project)


@pytest.mark.parametrize("package", ["gcc", "libc6-dev", "python3-dev"])
def test_no_host_has_a_compiler(host: Host, package: str) -> None:
    assert not host.package(package).is_installed


@pytest.mark.parametrize(
    ("name", "compiled"),
    [("molecule-one", True), ("molecule-two", False), ("molecule-three", False), ("molecule-four", True)],
)
def test_only_builders_have_ever_had_one(name: str, compiled: bool) -> None:
    assert (" install gcc:" in on(name).file("/var/log/dpkg.log").content_string) == compiled


@pytest.mark.parametrize("name", ["molecule-two", "molecule-three"])
def test_only_builders_reach_an_index(name: str) -> None:
    fetch = "import urllib.request as r; r.urlopen('https://pypi.org/simple/flask/')"
    assert "Connection refused" in on(name).run("python3 -c %s", fetch).stderr


@pytest.mark.parametrize("name", ["molecule-one", "molecule-two", "molecule-three"])
def test_hosts_of_a_platform_have_the_same_wheels(name: str) -> None:
    wheels = "find %s -type f -printf '%%P\\n' | sort"
    assert on(name).check_output(wheels, POOL) == on("molecule-one").check_output(wheels, POOL)


def test_app_runs_with_what_was_compiled_and_what_no_index_has(host: Host) -> None:
    said = answer(host)
    assert (said["bits"], said["private"]) == ("101", "private")
    assert said["extension"].endswith(".so")


def test_environment_belongs_to_root_and_is_compiled(host: Host) -> None:
    environment = host.check_output("readlink -f /srv/native/current/venv")
    assert host.check_output("find %s ! -user root", environment) == ""
    assert host.check_output("find %s -name flaskfleet_private.*.pyc", environment)


def test_no_code_of_a_package_runs_as_root(host: Host) -> None:
    """The private wheel has a .pth that leaves a file of who runs it, as the app does at last."""
    owners = host.check_output("stat -c %U /var/tmp/flaskfleet-spy-*").splitlines()
    assert "native" in owners
    assert "root" not in owners


# Faults


@pytest.fixture
def requirements(tmp_path: Path):
    """A function that makes a source of the app with other requirements, as the option of that name."""

    def make(text: str) -> dict[str, str]:
        for path in (PROJECT / "molecule/platforms/native").glob("*.*"):
            (tmp_path / path.name).write_text(path.read_text())
        (tmp_path / "requirements.txt").write_text(text)
        return {"path": str(tmp_path)}

    return make


NATIVE = "bitarray==3.12.3\nflask==3.1.2\nflaskfleet-private==1.0\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flask==3.1.2\nwerkzeug<2\n", "werkzeug<2"),
        ("flask==3.1.2\nno-such-project-at-all==1\n", "no-such-project-at-all==1"),
        (f"flask==3.1.2 --hash=sha256:{'0' * 64}\n", "flask==3.1.2"),
        (f"flask==3.1.2 --hash=sha256:{'0' * 64}\nwerkzeug==3.1.3\n", "werkzeug==3.1.3"),
    ],
    ids=["conflict", "unknown", "other hash", "missing hash"],
)
def test_requirement_that_cannot_be_met_is_named(requirements, text: str, words: str) -> None:
    host = on("molecule-one")
    before = live(host)
    play = deploy(host, source=requirements(text))
    assert play.process.returncode != 0
    assert words in play.output
    assert live(host) == before


def test_altered_wheel_of_the_wheelhouse_is_refused_by_name(requirements) -> None:
    host = on("molecule-two")
    before = live(host)
    (record,) = [one for one in sets("bitarray==") if one["host"] == "molecule-one"]
    flask = next(wheel for wheel in record["wheels"] if wheel["file"].startswith("flask-"))
    path = HOUSE / record["platform"].partition("/")[0] / flask["sha256"] / flask["file"]
    good = path.read_bytes()
    host.check_output("rm -r %s/%s", POOL, flask["sha256"])
    path.write_bytes(good + b"altered")
    try:
        # The set is the same, its environment another one: of a Python by another name.
        play = deploy(host, python="/usr/bin/python3.11")
    finally:
        path.write_bytes(good)
    assert play.process.returncode != 0
    assert f"{path} was altered" in " ".join(play.output.split())
    assert live(host) == before


def test_altered_wheel_of_a_host_is_refused_by_name_and_replaced_once_removed() -> None:
    host = on("molecule-three")
    before = live(host)
    path = host.check_output("find %s -name 'flask-*.whl'", POOL)
    host.check_output("echo altered >> %s", path)
    play = deploy(host, python="/usr/bin/python3.11")
    assert play.process.returncode != 0
    assert Path(path).name in play.output
    assert live(host) == before
    host.check_output("rm %s", path)
    assert deploy(host, python="/usr/bin/python3.11").process.returncode == 0
    assert live(host) != before


def test_full_disk_is_reported_and_a_rerun_succeeds() -> None:
    host = on("molecule-three")
    before = live(host)
    host.check_output("mount -t tmpfs -o size=200k tmpfs %s", POOL)
    try:
        play = deploy(host, python="/bin/python3")
        left = host.check_output("find %s -name '*.whl'", POOL)
    finally:
        host.check_output("umount %s", POOL)
    assert play.process.returncode != 0
    assert "No space left on device" in play.output
    assert (left, live(host)) == ("", before)
    assert answer(host)["private"] == "private"
    assert deploy(host, python="/bin/python3").process.returncode == 0
    assert live(host) != before


def test_killed_build_leaves_nothing_and_the_next_run_builds(requirements) -> None:
    host = on("molecule-one")
    source = requirements(f"--no-binary bitarray\n{NATIVE}markupsafe==3.0.2\n")
    play = Play("playbooks/deploy.yml", host, variables={"changed_apps": {"native": {"source": source}}})
    eventually(lambda: host.run("pgrep -f '[p]ip wheel'").rc == 0, "a build", within=300)
    host.run("pkill -9 -f '[p]ip wheel'; pkill -9 -f '[w]heel_set'")
    assert play.wait() != 0
    assert sets("markupsafe==") == []
    again = Play("playbooks/deploy.yml", host, variables={"changed_apps": {"native": {"source": source}}})
    assert again.wait() == 0, again.output
    assert len(sets("markupsafe==")) == 1
    assert not host.package("gcc").is_installed
