"""Links, in what an app's user writes, to what is not its own: neither nginx nor root follows them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import NAMES, ask, host, play

PAGE = "/srv/neighbour/current/src/static/uploads/page.txt"
SHARED = "/srv/mallory/shared"
UPLOADS = "/srv/mallory/current/src/static/uploads"
TARGETS = {
    "/etc/shadow": "/etc/shadow",
    "/etc/passwd": "/etc/passwd",
    "the neighbour's secret": "/srv/neighbour/current/secrets/env/SECRET",
    "the neighbour's upload": PAGE,
    "code of a release": "/srv/neighbour/current/src/neighbour.py",
    "its own settings": "/srv/mallory/current/uwsgi.ini",
    "a log of nginx": "/var/log/nginx/neighbour.access.log",
}
both = pytest.mark.parametrize("name", NAMES)


def as_mallory(name: str, command: str) -> None:
    host(name).check_output("runuser -u mallory -- sh -c %s", command)


@pytest.fixture(scope="module", autouse=True)
def uploads() -> Iterator[None]:
    """The neighbour has an upload, and mallory one that is served: a test that sees nothing would prove nothing."""
    for name in NAMES:
        host(name).check_output("runuser -u neighbour -- sh -c %s", f"echo page > {PAGE}")
        as_mallory(name, f"echo mine > {UPLOADS}/mine.txt")
        assert ask(name, "/static/uploads/mine.txt", "mallory") == "200 mine"
        assert ask(name, "/static/uploads/page.txt") == "200 page"
    yield
    for name in NAMES:
        as_mallory(name, f"rm -rf {UPLOADS}/* {SHARED}/planted*")


@both
@pytest.mark.parametrize("target", TARGETS)
def test_link_is_not_served(name: str, target: str) -> None:
    path = TARGETS[target]
    folder, _, file = path.rpartition("/")
    as_mallory(name, f"ln -sfn {path} {UPLOADS}/link; ln -sfn {folder} {UPLOADS}/folder; ln -sfn / {UPLOADS}/root")
    for url in ("link", f"folder/{file}", f"root{path}"):
        assert ask(name, f"/static/uploads/{url}", "mallory")[:3] in ("403", "404")


@both
@pytest.mark.parametrize("path", ["/etc/shadow", "/srv/neighbour/current/secrets/env/SECRET", "/etc/passwd"])
def test_file_of_another_owner_cannot_be_named_again(name: str, path: str) -> None:
    """Nor is a further name of it (link(2)) served."""
    made = host(name).run("runuser -u mallory -- ln -P %s %s/named", path, UPLOADS)
    assert made.rc != 0
    assert ask(name, "/static/uploads/named", "mallory")[:3] in ("403", "404")


@both
def test_a_pipe_blocks_no_request(name: str) -> None:
    as_mallory(name, f"rm -f {UPLOADS}/pipe; mkfifo {UPLOADS}/pipe")
    assert ask(name, "/static/uploads/pipe", "mallory")[:3] in ("403", "404")
    assert ask(name, "/static/uploads/mine.txt", "mallory") == "200 mine"


@pytest.fixture(scope="module")
def deployed() -> None:
    """A deploy while everything that root may look at leads elsewhere."""
    for name in NAMES:
        for number, path in enumerate(("/etc/canary", "/etc/canary.d", "/srv/neighbour/shared", "/etc/shadow")):
            as_mallory(name, f"ln -sfn {path} {UPLOADS}/planted{number}; ln -sfn {path} {SHARED}/planted{number}")
        as_mallory(name, f"cd {SHARED}; mv instance planted-instance; ln -s /etc/canary.d instance")
        as_mallory(name, f"ln -sfn /etc/canary {SHARED}/data/app.db")
    before = {name: owners(name) for name in NAMES}
    try:
        done = play("site.yml")
        assert done.returncode == 0, done.stdout
        play("playbooks/deploy.yml", "-e", "app=mallory", changed_apps={"mallory": {"env": {"LINKS": "planted"}}})
        assert {name: owners(name) for name in NAMES} == before
    finally:
        for name in NAMES:
            as_mallory(name, f"cd {SHARED}; rm -f instance data/app.db; mv planted-instance instance")


def owners(name: str) -> str:
    return host(name).check_output(
        "find /etc/canary /etc/canary.d /srv/neighbour/shared /etc/shadow -printf '%p %u %g %m %s\\n'"
    )


@both
@pytest.mark.usefixtures("deployed")
def test_root_follows_no_link(name: str) -> None:
    """What they lead to is as it was, and nothing of it was copied to where the user can read it."""
    assert host(name).check_output("ls -A /etc/canary.d") == "file"
    found = host(name).run(
        "runuser -u mallory -- grep -rlE 'canary-of-(the-host|a-file|a-variable)' /srv /var/log /var/tmp"
    )
    assert found.stdout == ""
