"""The drift that status.yml reports, and that site.yml repairs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from conftest import PROJECT
from fleet import APP_SERVERS, BALANCERS, done, fails, holders, host, kill, start

STRICT = ("-e", "status_strict=true")
FILE = "/etc/nginx/nginx.conf"


def report() -> dict:
    """The last one."""
    return json.loads((PROJECT / "reports/fleet.json").read_text())


def changes(output: str) -> dict[str, set[str]]:
    """The tasks that changed something, by host."""
    task, found = "", {}
    for line in output.splitlines():
        if match := re.match(r"  (\S.*)", line):
            task = match[1].rpartition(" : ")[2]
        elif match := re.match("    changed: (.*)", line):
            for name in match[1].split(", "):
                found.setdefault(name.partition(" -> ")[0], set()).add(task)
    return found


@pytest.fixture(scope="module")
def drift() -> Iterator[dict[str, str]]:
    """The drift in the report, by host."""
    program = host("app2").check_output("readlink /srv/hello/current").replace("releases/", "hello-")
    version = host("app3").check_output("dpkg-query --show --showformat '${Version}' logrotate")
    host("app1").check_output(f"echo '# by hand' >>{FILE}")
    host("app2").check_output(f"supervisorctl stop {program}")
    # An older version, in dpkg's database.
    older = "/^Package: logrotate$/,/^$/s/^Version: .*/Version: 3.0/"
    host("app3").check_output("sed -i %s /var/lib/dpkg/status", older)
    yield {
        "app1": f"{FILE} was edited",
        "app2": f"program {program} is STOPPED",
        "app3": f"package logrotate is at 3.0, below {version}",
    }
    done("../site")


def test_a_fleet_without_drift_is_reported() -> None:
    output = done("status", *STRICT).output
    assert "No drift found." in output
    told = {one["name"]: one for one in report()["hosts"]}
    assert [*told] == [*BALANCERS, *APP_SERVERS]
    assert [name for name, one in told.items() if one["has_address"]] == holders()
    for name in APP_SERVERS:
        apps = {app["app"]: app for app in told[name]["apps"]}
        assert host(name).check_output("readlink /srv/hello/current") == f"releases/{apps['hello']['live']}"
        assert {program["state"] for app in apps.values() for program in app["programs"]} == {"RUNNING"}
    assert (PROJECT / "reports/fleet.html").read_text().count("<section") == 5


def test_drift_is_reported_and_repaired_and_nothing_else_is_touched(drift: dict[str, str]) -> None:
    output = fails("status", *STRICT)
    for name, words in drift.items():
        assert f"{name}: {words}" in output
    assert report()["drift"] == 3
    told = done("status").output  # without being strict it only tells
    for name, words in drift.items():
        assert re.search(rf"^ +{name}: {re.escape(words)}$", told, re.MULTILINE)

    healed = changes(done("../site").output)
    assert [task.partition(",")[0] for task in healed["app2"]] == ["Release | Start the live release of each app"]
    assert healed["app3"] == {"Install | Install packages"}
    assert "Configure | Render the nginx config tree" in healed["app1"]
    assert {*healed} == {*drift}
    assert "No drift found." in done("status", *STRICT).output


def test_an_unreachable_host_is_reported() -> None:
    kill("app2")
    try:
        output = fails("status", *STRICT)
    finally:
        start("app2")
    assert re.search(r"app2: .*(timed out|[Uu]nreachable|[Nn]o route|not be sent)", output), output
    (told,) = [one for one in report()["hosts"] if one["problem"]]
    assert told["name"] == "app2"
