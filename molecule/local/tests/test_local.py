"""A host on which only init scripts start services."""

from __future__ import annotations

import json
import urllib.request

import pytest
from browser import Site
from testinfra.host import Host


def test_there_is_no_systemd(host: Host) -> None:
    assert host.check_output("cat /proc/1/comm") == "sleep"


@pytest.mark.parametrize("name", ["nginx", "supervisord"])
def test_daemon_runs(host: Host, name: str) -> None:
    assert host.process.filter(comm=name, ppid=1)


def test_no_unit_is_written(host: Host) -> None:
    assert host.check_output("find /etc/systemd -name 'flaskfleet*'") == ""


def test_app_runs_as_its_user(host: Host) -> None:
    assert len(host.process.filter(user="hello", comm="uwsgi")) == 5


def test_app_answers_with_its_live_release(host: Host) -> None:
    address = host.check_output("hostname -I").split()[0]
    request = urllib.request.Request(f"http://{address}/version", headers={"Host": "localhost"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        version = json.load(answer)
    live = host.check_output("readlink /srv/hello/current").rpartition("/")[2]
    assert (version["host"], version["release"]) == ("local", live)


def test_tutorial_of_flask_takes_a_post(host: Host) -> None:
    site = Site("flaskr", host.check_output("hostname -I").split()[0])
    login = {"username": "ann", "password": "correct horse"}
    site.form("/auth/register", login)
    site.form("/auth/login", login)
    assert "A first post" in site.form("/create", {"title": "A first post", "body": "Body"}).text


def test_httpbin_gets_a_body_in_chunks(host: Host) -> None:
    site = Site("httpbin", host.check_output("hostname -I").split()[0])
    assert site.put("/put", data=iter([b"x" * 70_000, b"y" * 70_000])).json()["data"] == "x" * 70_000 + "y" * 70_000
