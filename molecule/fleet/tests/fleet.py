"""The fleet: its hosts, runs over all of them, clients that ask through its address."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import testinfra
import yaml
from faults import Play, eventually
from load import Load, Options
from rollouts import FIRST_NUMBERS, SERVER_NAME, State, await_answers, begin, look, recorded, refused, run
from testinfra.host import Host

INVENTORY_FILE = Path(os.environ["MOLECULE_INVENTORY_FILE"])
VIP = "172.30.77.110"
APP_SERVERS = ("app1", "app2", "app3")
BALANCERS = ("lb1", "lb2")
ALL = ("--limit", "all")  # the last --limit counts
RATE = 100  # requests per second


def container(name: str) -> str:
    """The container of a host."""
    return f"molecule-fleet-{name}"


@cache
def host(name: str) -> Host:
    """A host of the fleet, reached through the Docker engine, also while the network does not reach it."""
    return testinfra.get_host(f"docker://{container(name)}")


def app_servers() -> list[Host]:
    """All of them."""
    return list(map(host, APP_SERVERS))


def states() -> dict[str, State]:
    """The state of counter on each app server."""
    return {name: look(host(name)) for name in APP_SERVERS}


def live(names: Iterable[str] = APP_SERVERS) -> set[str]:
    """The ids of the releases of counter that hosts serve."""
    return {
        host(name).check_output("readlink /srv/counter/current").rpartition("/")[2].partition(".")[0] for name in names
    }


def begun(playbook: str, *arguments: str, **variables: Any) -> Play:
    """Begin a run over all hosts."""
    return begin(host("app1"), playbook, *ALL, *arguments, **variables)


def done(playbook: str, *arguments: str, **variables: Any) -> Play:
    """Run a playbook over all hosts to its end, which has to be a good one."""
    return run(host("app1"), playbook, *ALL, *arguments, **variables)


def fails(playbook: str, *arguments: str, **variables: Any) -> str:
    """Run a playbook over all hosts that must fail; its output."""
    return refused(host("app1"), playbook, *ALL, *arguments, **variables)


def docker(*arguments: str) -> None:
    """Do something to a container from outside."""
    subprocess.run(["docker", *arguments], check=True, capture_output=True)


def kill(name: str) -> None:
    """As a power cut would."""
    docker("kill", container(name))


# On an app server: only its balancers may ask it from elsewhere.
ASK = f"""
from urllib.request import Request, urlopen
print(urlopen(Request("http://127.0.0.1/healthz", headers={{"Host": "{SERVER_NAME}"}})).read().decode())
"""


def start(name: str) -> None:
    """Start a container, and wait until it has booted; an app server, until its app answers."""
    docker("start", container(name))
    eventually(lambda: host(name).run("systemctl is-system-running --wait").stdout.strip() == "running", f"{name} up")
    if name in APP_SERVERS:
        eventually(lambda: host(name).run("python3 -c %s", ASK).stdout == "ok\n", f"{name} answers")


def holders() -> list[str]:
    """The balancers that have the address; one that can't be asked has not."""
    return [name for name in BALANCERS if VIP in host(name).run("ip -4 -oneline address").stdout]


@contextmanager
def clients(rate: float = RATE) -> Iterator[Load]:
    """Numbered requests through the address while the block runs: 10 % POSTs, 0.1 % that take 3 s."""
    options = Options(f"http://{VIP}", host_header=SERVER_NAME, rate=rate, first_number=next(FIRST_NUMBERS))
    with Load(options) as load:
        await_answers(load)
        yield load
        await_answers(load)


def problems(load: Load) -> dict[str, Any]:
    """What may not be, of a load that has ended; empty where all is well."""
    twice, lost = recorded(load.results, app_servers())
    found = {"failed": [f"{one.due:.2f} {one.kind}: {one.reason}" for one in load.failed], "twice": twice, "lost": lost}
    return {what: those for what, those in found.items() if those}


def tickers() -> dict[str, int]:
    """How many tickers run on each host."""
    return {name: sum("ticker" in program for program in state.pids) for name, state in states().items()}


def drained() -> dict[str, list[str]]:
    """The drained hosts of each load balancer that has any."""
    flags = {name: host(name).run("ls /var/lib/flaskfleet/drain").stdout.split() for name in BALANCERS}
    return {name: hosts for name, hosts in flags.items() if hosts}


def changed_inventory(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """A copy of the inventory, with the hosts of each group as ``change`` makes them; its file, for the environment."""
    copy = folder / "inventory"
    shutil.copytree(INVENTORY_FILE.parent, copy)
    for file in (copy / "hosts.yml", copy / INVENTORY_FILE.name):
        groups = yaml.safe_load(file.read_text())
        for group in groups.values():
            if "hosts" in group:
                group["hosts"] = change(group["hosts"])
        file.write_text(yaml.safe_dump(groups, sort_keys=False))
    return copy / INVENTORY_FILE.name
