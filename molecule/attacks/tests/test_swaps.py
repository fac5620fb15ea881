"""An app's user does to its own paths what it can while playbooks run: nothing is changed that is not the app's."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from conftest import NAMES, ask, attack, changed, host, play, snapshot, watched

MEMORY_MB = 200


class Case(NamedTuple):
    """A playbook that runs under attack. ``hurt``: it is about mallory, and may be refused."""

    playbook: str
    arguments: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ("swap",)
    deploys: str = ""  # an app, with another environment
    hurt: bool = False
    may_change: str = ""


DEPLOY, RESTART, ROLLBACK = "playbooks/deploy.yml", "playbooks/restart.yml", "playbooks/rollback.yml"
ABOUT_MALLORY = ("-e", "app=mallory")
ABOUT_NEIGHBOUR = ("-e", "app=neighbour")
EVERY = ("swap", "forge")
CASES = {
    "site": Case("site.yml"),
    "site, check": Case("site.yml", ("--check", "--diff")),
    "status": Case("playbooks/status.yml", attacks=EVERY),
    "status, stopped": Case("playbooks/status.yml", attacks=("stop",)),
    "deploy of the neighbour": Case(DEPLOY, ABOUT_NEIGHBOUR, EVERY, deploys="neighbour"),
    # The copy that runs has the place of the release.
    "restart of the neighbour": Case(RESTART, ABOUT_NEIGHBOUR, EVERY, may_change="/srv/neighbour/releases/"),
    "rollback of the neighbour": Case(ROLLBACK, ABOUT_NEIGHBOUR, EVERY),
    "deploy": Case(DEPLOY, ABOUT_MALLORY, deploys="mallory", hurt=True),
    "deploy, stopped": Case(DEPLOY, ABOUT_MALLORY, ("stop",), deploys="mallory", hurt=True),
    "restart": Case(RESTART, ABOUT_MALLORY, hurt=True),
    "rollback": Case(ROLLBACK, ABOUT_MALLORY, hurt=True),
    "patch": Case("playbooks/patch.yml", may_change=r"/etc/(apt|alternatives|ssl|ld\.so)"),
    "unlock": Case("playbooks/unlock.yml", ("-e", "reason=attacked")),
    "drain": Case("playbooks/drain.yml", ("-e", "host=molecule-first", "-e", "reason=attacked")),
    "undrain": Case("playbooks/undrain.yml", ("-e", "host=molecule-first")),
    # Last: mallory is gone afterwards.
    "remove": Case(
        "playbooks/remove_app.yml",
        ("-e", '{"app": "mallory", "gone_apps": ["mallory"], "purge": true}'),
        ("swap", "fork"),
        may_change=r"/srv/mallory|/etc/(passwd|shadow|group|gshadow)-?$|/etc/nginx/(nginx|servers/mallory)\.conf$",
    ),
}


@dataclass
class Run:
    """A playbook's run under attack, and what was there before and after on each host."""

    case: Case
    status: int
    output: str
    before: dict[str, dict[str, list[Any]]]
    after: dict[str, dict[str, list[Any]]]
    watched: dict[str, dict[str, Any]]


@pytest.fixture(scope="module", params=CASES)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Each playbook under attack."""
    case = CASES[request.param]
    variables = {"changed_apps": {case.deploys: {"env": {"BUILD": uuid.uuid4().hex}}}} if case.deploys else {}
    before = {name: snapshot(name) for name in NAMES}
    with attack(*case.attacks), watched() as found:
        done = play(case.playbook, *case.arguments, **variables)
    yield Run(case, done.returncode, done.stdout, before, {name: snapshot(name) for name in NAMES}, found)


def test_playbook_succeeds_or_fails_with_a_message(run: Run) -> None:
    if run.case.hurt:  # refused with a message about the app, not with a traceback
        assert re.findall(r"Module failed: (?!mallory)", run.output) == [], run.output
    else:
        assert run.status == 0, run.output


@pytest.mark.parametrize("name", NAMES)
def test_other_files_than_the_apps_are_not_changed(run: Run, name: str) -> None:
    assert changed(run.before[name], run.after[name], run.case.may_change) == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_apps_user_owns_nothing_outside_of_its_folders(run: Run, name: str) -> None:
    if host(name).user("mallory").exists:
        find = r"find / -xdev \( -path /srv/mallory -o -path /tmp -o -path /var/tmp \) -prune -o -user mallory -print"
    else:
        assert run.case.playbook.endswith("remove_app.yml")
        find = "find / /dev/shm -xdev -nouser"
    assert host(name).check_output(find) == ""


@pytest.mark.parametrize("name", NAMES)
def test_memory_of_root_is_small(run: Run, name: str) -> None:
    assert run.watched[name]["processes"] > 0
    assert run.watched[name]["mb"] < MEMORY_MB, run.watched[name]["line"]


@pytest.mark.parametrize("name", NAMES)
def test_neighbour_answers(run: Run, name: str) -> None:
    assert ask(name, "/healthz").startswith("200")
