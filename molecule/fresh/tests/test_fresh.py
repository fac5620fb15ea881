"""What README's commands leave on a machine that had nothing."""

from __future__ import annotations

import pytest
from testinfra.host import Host

FLEET = {f"flaskfleet-{name}" for name in ("lb1", "lb2", "app1", "app2", "app3")}


def test_apts_locks_were_waited_for(host: Host) -> None:
    assert "waiting for another run of apt or dpkg: Could not get lock" in host.file("/root/demo.log").content_string


def test_containers_are_up(host: Host) -> None:
    assert set(host.check_output("docker ps --format '{{.Names}}'").split()) == FLEET


@pytest.mark.parametrize("container", sorted(FLEET))
def test_key_is_roots_alone(host: Host, container: str) -> None:
    assert host.check_output("docker exec %s stat -c '%%a %%U' /root/.ssh/authorized_keys", container) == "600 root"


def test_page_answers(host: Host) -> None:
    page = "import urllib.request as request; print(request.urlopen('http://172.30.77.10/').read().decode())"
    assert "<title>hello on app" in host.check_output("python3 -c %s", page)


def test_clone_is_clean(host: Host) -> None:
    assert host.check_output("git -C /root/flaskfleet status --porcelain") == ""
