"""The fleet's report: the state of each host, disagreements, and the page in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from examples import ME, A, B
from plugin_utils import report

GROUPS = {"load_balancers": ["lb1"], "app_servers": ["app1", "app2", "app3"]}
HOSTILE = "<script>document.title='mine'</script>"


def app(live: str = A, **changed: Any) -> dict[str, Any]:
    """The state of an app on a host."""
    program = {"name": f"blog-{live}", "program": f"blog-{live}", "state": "RUNNING", "pid": 7, "since": 1}
    return {
        "app": "blog", "live": live, "since": "2026-11-22T17:30:00Z", "by": ME, "what": "deploy",
        "source": {"path": "/home/me/blog"}, "programs": [program], "on_disk": [], "lock": {}, "edited": [],
        "stuck": [], "singletons": None, **changed,
    }  # fmt: skip


def state(*apps: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The result of the module fleet_state."""
    disk = {"/": {"free": 5 * 10**9, "size": 10**10}}
    found = {"apps": [*apps], "drift": [], "platform": "Debian 12 x86_64", "disk": disk, "drained": [], "now": 1}
    return {"__status_state": {**found, "has_address": False, **changed}}


def fleet(**changed: dict[str, Any]) -> dict[str, Any]:
    """The variables that playbooks/status.yml registers on hosts without drift, changed for some hosts."""
    hosts = {"lb1": state(has_address=True), **{name: state(app()) for name in GROUPS["app_servers"]}}
    return {name: {"ansible_host": "10.0.0.1", **one, **changed.get(name, {})} for name, one in hosts.items()}


def test_the_report_has_balancers_first_and_every_value() -> None:
    told = report.report(GROUPS, fleet())
    assert [host["name"] for host in told["hosts"]] == ["lb1", "app1", "app2", "app3"]
    assert (told["drift"], report.summary(told)) == (0, [])
    assert told["hosts"][1]["apps"][0]["live"] == A


def test_an_address_is_reported_as_in_the_inventory() -> None:
    """A container's name can't be resolved."""
    hosts = {**fleet(app1={"ansible_host": "no.such.name.invalid"}), "app2": state(app())}
    assert [host["address"] for host in report.report(GROUPS, hosts)["hosts"]][1:3] == ["no.such.name.invalid", "app2"]


def test_a_host_that_is_not_part_of_the_run_is_not_reported() -> None:
    hosts = fleet()
    hosts["app2"] = {}
    assert "app2" not in [host["name"] for host in report.report(GROUPS, hosts)["hosts"]]


@pytest.mark.parametrize(
    ("found", "words"),
    [({"unreachable": True, "msg": "no route to host"}, "no route to host"), ({"failed": True}, "it does not answer")],
)
def test_a_host_that_does_not_answer_is_reported(found: dict[str, Any], words: str) -> None:
    told = report.report(GROUPS, fleet(app2={"__status_state": found}))
    assert report.summary(told) == [f"app2: {words}"]
    assert told["drift"] == 1


def test_drift_is_reported_by_host() -> None:
    told = report.report(GROUPS, fleet(app1=state(app(), drift=["x was edited", "y was removed"])))
    assert (told["drift"], report.summary(told)) == (2, ["app1: x was edited", "app1: y was removed"])


def test_a_host_with_another_release_than_most_is_drift() -> None:
    hosts = fleet(app1=state(app(f"{A}.1")), app3=state(app(B)))
    assert report.summary(report.report(GROUPS, hosts)) == [
        f"app3: blog: {B} is live, and {A} on app1, app2; deploy or roll back"
    ]


def test_undeployed_changes_are_no_drift() -> None:
    asked = {
        "__status_asked": {"results": [{"__status_app": "blog", "undeployed": ["processes 2 → 8"]}, {"skipped": True}]}
    }
    told = report.report(GROUPS, fleet(app1=asked))
    assert (told["hosts"][1]["apps"][0]["undeployed"], told["drift"]) == (["processes 2 → 8"], 0)


# the page


def page(hosts: dict[str, Any]) -> str:
    """The page of a fleet."""
    return report.page(report.report(GROUPS, hosts))


@pytest.fixture
def browser(tmp_path: Path):
    """A function that opens a page in a window of a width; its DOM, and where asked, what a script finds there."""
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("there is no Chromium; make molecule installs it")

    def open_(page: str, width: int = 1280) -> str:
        probe = (
            "<script>addEventListener('load', () => document.body.dataset.width = document.body.scrollWidth)</script>"
        )
        (tmp_path / "page.html").write_text(page.replace("</body>", f"{probe}</body>"))
        argv = [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--no-first-run", f"--user-data-dir={tmp_path}/profile",
            f"--window-size={width},900", "--dump-dom", f"file://{tmp_path}/page.html",
        ]  # fmt: skip
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout

    return open_


def test_the_page_of_a_fleet_without_drift_reports_that(browser) -> None:
    dom = browser(page(fleet()))
    assert "<title>All is well" in dom
    assert re.search(r"<h1>\s*No drift found\s*</h1>", dom)
    assert dom.count("<section") == 4
    assert "has the shared address" in dom


def test_a_drained_host_is_on_the_page_and_is_no_drift() -> None:
    words = "app2 is drained since 2026-11-22T17:30:00Z, by ann@box: a new disk"
    told = report.report(GROUPS, fleet(lb1=state(drained=[words])))
    assert (told["hosts"][0]["drained"], told["drift"]) == ([words], 0)
    assert f"<dt>drained</dt><dd>{words}</dd>" in report.page(told)


def test_undeployed_changes_are_on_the_page() -> None:
    asked = {"__status_asked": {"results": [{"__status_app": "blog", "undeployed": ["processes 2 → 8"]}]}}
    told = page(fleet(app1=asked))
    assert "<dt>undeployed</dt><dd>processes 2 → 8</dd>" in told


def test_the_page_has_drift_first(browser) -> None:
    hosts = fleet(app2=state(app(stuck=[17]), drift=["/etc/nginx/nginx.conf was edited"]), app3={"__status_state": {}})
    dom = browser(page(hosts))
    assert "Drift in 2 places" in dom
    assert dom.index("/etc/nginx/nginx.conf was edited") < dom.index("<section")
    assert "a request has run for 17 s" in dom
    assert dom.count('class="bad"') == 3


def test_text_from_hosts_is_escaped(browser) -> None:
    hostile = state(app(source={"path": HOSTILE}, by=HOSTILE), drift=[HOSTILE], platform=HOSTILE)
    dom = browser(page(fleet(app1=hostile)))
    assert "<title>1 to look at" in dom
    assert dom.count("&lt;script&gt;") >= 4


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_not_wider_than_the_window(browser, width: int) -> None:
    long = state(app(source={"path": "/" + "x" * 300}), drift=["/srv/" + "y" * 300 + " was edited"])
    dom = browser(page(fleet(app1=long)), width)
    # A window has a least width of its own; what counts is that nothing sticks out of it.
    assert int(re.search(r'data-width="(\d+)"', dom)[1]) <= max(width, 500)


@pytest.mark.parametrize(
    ("having", "words"),
    [
        ([False, True, False], []),
        (
            [True, True, False],
            [f"{name}: blog: singletons run on app1, app2, not on one host" for name in ("app1", "app2")],
        ),
        ([False, False, False], ["app1: blog: singletons run on no host"]),
    ],
    ids=["on one", "on two", "on none"],
)
def test_singletons_on_several_hosts_or_on_none_are_drift(having: list[bool], words: list[str]) -> None:
    hosts = fleet(
        **{name: state(app(singletons=here)) for name, here in zip(GROUPS["app_servers"], having, strict=True)}
    )
    assert report.summary(report.report(GROUPS, hosts)) == words


@pytest.mark.parametrize("absent", [{}, {"__status_state": {"msg": "no route"}}], ids=["not asked", "silent"])
def test_a_host_that_did_not_answer_may_run_singletons(absent: dict[str, Any]) -> None:
    hosts = {**fleet(app1=state(app(singletons=False)), app2=state(app(singletons=False))), "app3": absent}
    assert not [words for words in report.summary(report.report(GROUPS, hosts)) if "singletons" in words]
