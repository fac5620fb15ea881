"""Hosts are drained and undrained under load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import eventually
from fleet import (
    APP_SERVERS,
    BALANCERS,
    await_answers,
    begun,
    changed_inventory,
    clients,
    done,
    drained,
    fails,
    host,
    kill,
    live,
    problems,
    start,
    tickers,
)
from rollouts import WHO, unique


def asked(name: str) -> int:
    """How many requests of the balancers a host has had."""
    return int(host(name).check_output("grep -c work /var/log/nginx/counter.access.log"))


@pytest.mark.slow
def test_four_hard_stops_of_drained_hosts_lose_no_request() -> None:
    with clients() as load:
        for name in (*APP_SERVERS, "app1"):
            output = done("drain", "-e", f"host={name}", reason="a new disk").output
            assert f"{name} is drained on lb1, lb2, and its last request is done" in output
            assert drained() == {balancer: [name] for balancer in BALANCERS}
            before = asked(name)
            await_answers(load)
            assert asked(name) == before
            assert (sum(tickers().values()), tickers()[name]) == (1, 0), "the singleton was not moved"
            kill(name)
            start(name)
            assert f"{name} is undrained" in done("undrain", "-e", f"host={name}").output
            await_answers(load)
    assert drained() == {}
    assert problems(load) == {}


def test_every_load_balancer_has_the_drained_hosts_and_refuses_to_drain_the_last_one() -> None:
    for name in ("app1", "app2"):
        done("drain", "-e", f"host={name}", reason="a new disk")
    try:
        output = fails("drain", "-e", "host=app3", reason="a new disk")
        assert re.search(
            rf"can't drain app3: no app server would be left\. app1 is drained since \S+Z, by {WHO}: a new disk; "
            "app2 is drained",
            output,
        )
        host("lb2").check_output("rm -r /var/lib/flaskfleet/drain")  # as on a new load balancer
        done("../site", "--limit", "lb2", "--tags", "nginx")
        assert drained() == {balancer: ["app1", "app2"] for balancer in BALANCERS}
    finally:
        for name in ("app1", "app2"):
            done("undrain", "-e", f"host={name}")


def test_a_drained_host_is_no_canary() -> None:
    done("drain", "-e", "host=app1", reason="a new disk")
    try:
        output = done("deploy", options={"env": unique()}).output
    finally:
        done("undrain", "-e", "host=app1")
    switched = dict(re.findall(r"(app\d): counter .*, switched at (\S+) UTC", output))
    assert sorted(switched) == [*APP_SERVERS]
    assert min(switched, key=switched.get) == "app2"


def test_the_only_host_that_passes_a_check_is_not_drained() -> None:
    programs = {
        name: host(name).check_output("readlink /srv/hello/current").replace("releases/", "hello-")
        for name in ("app2", "app3")
    }
    for name, program in programs.items():
        host(name).check_output(f"supervisorctl stop {program}")
    try:
        output = fails("drain", "-e", "host=app1", reason="a new disk")
        assert re.search(r"can't drain app1: only app1 answers \S+ with 200, app2 with 502, app3 with", output)
        assert drained() == {}
    finally:
        for name, program in programs.items():
            host(name).check_output(f"supervisorctl start {program}")


def test_a_reload_of_nginx_loses_no_request_and_a_killed_run_is_completed_by_the_next() -> None:
    changed = {"nginx_static_max_age_seconds": 17}
    with clients() as load:
        play = begun("../site", "--tags", "nginx", **changed)
        play.reach("Reload | Wait for nginx")
        play.kill()
        (name,) = drained()["lb1"]  # whichever was the first
        assert drained() == {balancer: [name] for balancer in BALANCERS}
        done("../site", "--tags", "nginx", **changed)
        assert drained() == {}
        done("../site", "--tags", "nginx")
    assert problems(load) == {}


# A repository with two versions of an empty package. The first one is installed.
PROBE = """
set -e
mkdir -p /opt/probe && cd /opt/probe
for version in 1 2; do
    mkdir -p $version/DEBIAN
    printf 'Package: probe\nVersion: %s\nArchitecture: all\nMaintainer: nobody\nDescription: probe\n' $version \
        >$version/DEBIAN/control
    dpkg-deb --build $version probe-$version.deb
done
dpkg --install probe-1.deb
{
    cat 2/DEBIAN/control
    echo Filename: ./probe-2.deb
    echo Size: $(stat --format %s probe-2.deb)
    echo SHA256: $(sha256sum probe-2.deb | cut -d ' ' -f 1)
} >Packages
echo 'deb [trusted=yes] file:/opt/probe ./' >/etc/apt/sources.list.d/probe.list
"""


@pytest.fixture
def upgradable() -> Iterator[None]:
    """Each host has a package with a newer version in a repository."""
    for name in (*APP_SERVERS, *BALANCERS):
        host(name).check_output("sh -c %s", PROBE)
    yield
    for name in (*APP_SERVERS, *BALANCERS):
        host(name).check_output("dpkg --purge probe && rm -r /opt/probe /etc/apt/sources.list.d/probe.list")


def booted(name: str) -> str:
    """When a host was started."""
    return host(name).check_output("systemctl show --value --property=UserspaceTimestamp")


@pytest.mark.slow
def test_a_patch_and_a_reboot_of_one_host_after_another_lose_no_request(upgradable: None) -> None:
    before = {name: booted(name) for name in APP_SERVERS}
    with clients() as load:
        done("patch", patch_reboot="app2")
    assert problems(load) == {}
    version = "dpkg-query --show --showformat '${Version}' probe"
    assert {host(name).check_output(version) for name in (*APP_SERVERS, *BALANCERS)} == {"2"}
    assert [name for name in APP_SERVERS if booted(name) != before[name]] == ["app2"]
    assert drained() == {}


@pytest.mark.slow
def test_a_removed_host_joins_again_on_the_release_of_the_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = changed_inventory(tmp_path, lambda hosts: {name: hosts[name] for name in hosts if name != "app3"})
    options = {"env": unique()}
    with clients() as load:
        done("remove_host", "-e", "host=app3")
        with monkeypatch.context() as patched:
            patched.setenv("MOLECULE_INVENTORY_FILE", str(smaller))
            done("../site")
            done("deploy", options=options)
        (release,) = live(["app1", "app2"])
        assert drained() == {}, "a load balancer has a flag of a host that is no app server any more"
        done("../site", "--limit", "app3")
        assert live(["app3"]) == {release}
        before = asked("app3")
        done("../site", "--limit", "load_balancers")
        eventually(lambda: asked("app3") > before, "requests to the host that has joined")
    closed = "reused connection closed before an answer"
    found = problems(load)
    print(
        f"{len(load.results)} requests; idle connections closed by a balancer's reload: {found}, {len(load.repeated)}"
    )
    assert [one for one in found.pop("failed", []) if closed not in one] == []
    assert found == {}
    assert {one.release.partition(".")[0] for one in load.results if one.release} >= {release}
