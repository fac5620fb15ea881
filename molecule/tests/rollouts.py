"""Variants of the app counter, the runs that deploy them, the load meanwhile, and the state of a host."""

from __future__ import annotations

import getpass
import http.client
import itertools
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import PROJECT, Answer
from faults import Play, eventually
from load import Load, Options, Result, duplicates, missing
from testinfra.host import Host

COUNTER = PROJECT / "molecule/shared/apps/counter"
SERVER_NAME = "counter.example.lan"
PORTS = {"nginx": 80, "router": 8080}
SHARED = "/srv/counter/shared"
WHO = f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}"
NOTE = "sh -c 'echo {} $FLASKFLEET_RELEASE $(id -un) $BUILD | tee -a $FLASKFLEET_SHARED/hooks.log'"
HOOKS = {"before_switch": [NOTE.format("before")], "after_switch": [NOTE.format("after")]}
TICKER = {"command": "python -m counter.ticker"}
# Holds a run between warm-up and switch until the test releases it.
GATE = "sh -c 'touch $FLASKFLEET_SHARED/waits; until [ -e $FLASKFLEET_SHARED/go ]; do sleep 0.1; done'"
# Each load has numbers of its own, also on a host that was used before: the app's record outlives a session.
FIRST_NUMBERS = itertools.count(int(time.time()) * 1_000_000, 1_000_000)
LOOK = """
import hashlib, json, os, subprocess, sys
from pathlib import Path
name = sys.argv[1]
home, state = Path("/srv", name), Path("/var/lib/flaskfleet/apps", name + ".json")
def names(folder, pattern="*"):
    return sorted(path.name for path in Path(folder).glob(pattern))
def target(link):
    return os.path.basename(os.readlink(home / link)) if (home / link).is_symlink() else ""
def broken(release):
    written = json.loads((release / "manifest.json").read_text())
    return [
        file for file, digest in written.items()
        if not (release / file).is_file() or hashlib.sha256((release / file).read_bytes()).hexdigest() != digest
    ]
ps = subprocess.run(["ps", "-ww", "-eo", "pid=,ppid=,user:32=,args="], capture_output=True, text=True).stdout
status = subprocess.run(["supervisorctl", "status"], capture_output=True, text=True).stdout
programs = [line.split() for line in status.splitlines() if line.startswith(name + "-")]
print(json.dumps({
    "current": target("current"), "next": target("next"), "previous": target("previous"),
    "releases": names(home / "releases") + names(home / "releases", ".*"),
    "broken": [str(path) for release in (home / "releases").glob("[!.]*") for path in broken(release)],
    "venvs": names(home / "venvs") + names(home / "venvs", ".*"),
    "used": sorted({os.path.basename(os.readlink(path)) for path in home.glob("releases/*/venv")} | {target("router")}),
    "logs": names(Path("/var/log", name)),
    "conf_d": names("/etc/supervisor/conf.d", name + "-*"),
    "trial": names("/run/flaskfleet/supervisor.d", name + "-*"),
    "rollout": Path("/run/flaskfleet", name + ".rollout.json").exists(),
    "programs": {line[0]: line[1] for line in programs},
    "pids": {line[0]: int(line[3].rstrip(",")) for line in programs if line[1] == "RUNNING"},
    "processes": [line.split(None, 3) for line in ps.splitlines()],
    "journal": json.loads(state.read_text()) if state.exists() else {},
}))
"""


@dataclass(frozen=True)
class State:
    """The state of an app on a host: links by their release, files by name."""

    current: str
    next: str
    previous: str
    releases: list[str]
    broken: list[str]  # edited files
    venvs: list[str]
    used: list[str]  # environments that a release or the router has
    logs: list[str]
    conf_d: list[str]
    trial: list[str]
    rollout: bool
    programs: dict[str, str]  # their states
    pids: dict[str, int]
    processes: list[list[str]]  # pid, parent, user, command line
    journal: dict[str, Any]

    @property
    def left(self) -> dict[str, Any]:
        """The state that a refused release must not change, and the processes."""
        ours = sorted(row[0] for row in self.processes if row[2] == "counter")
        return {name: value for name, value in vars(self).items() if name != "processes"} | {"ours": ours}

    @property
    def master(self) -> int:
        """The pid of the live release's uWSGI master."""
        return self.pids[f"counter-{self.current}"]

    @property
    def others(self) -> set[str]:
        """The processes that a deploy of counter must not touch: the other apps, nginx and the router."""
        words = ("uwsgi hello", "uwsgi notes", "nginx:", "counter http router")
        return {f"{row[0]} {row[3]}" for row in self.processes if row[3].startswith(words)}

    @property
    def orphans(self) -> list[str]:
        """Processes of the app without a parent."""
        return [row[3] for row in self.processes if row[2] == "counter" and row[1] == "1"]

    def running(self, tickers: tuple[str, ...] = ("ticker",)) -> dict[str, str]:
        """The expected programs: the live release's, the router, and the further ones."""
        name = f"counter-{self.current}"
        further = [f"{name}-ticker:{ticker}" for ticker in tickers]
        return dict.fromkeys([name, "counter-http", *further], "RUNNING")


def look(host: Host, app: str = "counter") -> State:
    """The state of an app on a host. Waits for programs that start, because Supervisor takes seconds to report them."""

    def settled() -> State | None:
        state = State(**json.loads(host.check_output("python3 -c %s %s", LOOK, app)))
        return None if "STARTING" in state.programs.values() else state

    return eventually(settled, "programs that have started")


def address(host: Host) -> str:
    """The host's address as the controller sees it."""
    return host.check_output("hostname -I").split()[0]


def ask(host: Host, url: str, way: str = "nginx", **headers: str) -> Answer:
    """Ask counter from the controller, through nginx or the router."""
    return fetch(address(host), PORTS[way], url, **headers)


def fetch(where: str, port: int, url: str, **headers: str) -> Answer:
    """Ask an address for something of counter."""
    connection = http.client.HTTPConnection(where, port, timeout=60)
    try:
        connection.request("GET", url, headers={"Host": SERVER_NAME, **headers})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


# Runs


def unique() -> dict[str, str]:
    """An environment that no release has had yet."""
    return {"BUILD": uuid.uuid4().hex[:8]}


def begin(
    host: Host, playbook: str, *arguments: str, options: dict[str, Any] | None = None, announces: bool = True,
    **variables: Any,
) -> Play:  # fmt: skip
    """Begin a run for counter. ``options`` are those of its entry that differ from the inventory."""
    changed = {"app": "counter", "changed_apps": {"counter": options or {}}, **variables}
    return Play(f"playbooks/{playbook}.yml", host, *arguments, variables=changed, announces=announces)


def run(host: Host, playbook: str, *arguments: str, **variables: Any) -> Play:
    """Run a playbook for counter; it must succeed."""
    play = begin(host, playbook, *arguments, announces=False, **variables)
    assert play.wait() == 0, play.output
    return play


def refused(host: Host, playbook: str, *arguments: str, **variables: Any) -> str:
    """Run a playbook for counter that must fail; its output."""
    play = begin(host, playbook, *arguments, announces=False, **variables)
    assert play.wait() != 0, play.output
    return play.output


def source(folder: Path, files: dict[str, str | bytes]) -> dict[str, str]:
    """A copy of counter with other or further files, as the ``source`` of an entry."""
    copy = folder / uuid.uuid4().hex
    shutil.copytree(COUNTER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in files.items():
        (copy / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return {"path": str(copy)}


def code(first: str) -> str:
    """The code of counter, with code that runs first."""
    future = "from __future__ import annotations\n"
    return (COUNTER / "counter/__init__.py").read_text().replace(future, f"{future}{first}\n", 1)


@contextmanager
def at_the_switch(host: Host, *arguments: str, **variables: Any) -> Iterator[str]:
    """A deploy that waits between warm-up and switch until the block ends; its output afterwards."""
    before_switch = {"hooks": {"before_switch": [GATE], "after_switch": []}}
    options = {**variables.pop("options", {}), **before_switch}
    host.run(f"rm -f {SHARED}/waits {SHARED}/go")
    play = begin(host, "deploy", *arguments, options=options, **variables)
    try:
        eventually(lambda: host.file(f"{SHARED}/waits").exists or play.process.poll() is not None, "a warm release")
        assert play.process.poll() is None, play.wait() or play.output
        yield look(host).next
        host.check_output(f"touch {SHARED}/go")
        assert play.wait() == 0, play.output
    finally:
        host.run(f"touch {SHARED}/go")
        if play.process.returncode is None:
            play.wait()
        host.run(f"rm -f {SHARED}/waits {SHARED}/go")


# Load


class Loads:
    """A load of numbered requests through nginx, and one through the router."""

    def __init__(self, host: Host, rate: float) -> None:
        where = address(host)
        self.host = host
        self.loads = {
            name: Load(
                Options(
                    url=f"http://{where}:{port}",
                    host_header=SERVER_NAME,
                    rate=rate,
                    slow=0.003,
                    slow_seconds=1,
                    first_number=next(FIRST_NUMBERS),
                )
            )
            for name, port in PORTS.items()
        }

    @property
    def failed(self) -> dict[str, list[str]]:
        """The failed requests so far, in words, by way."""
        return {name: [f"{one.due}: {one.reason}" for one in load.failed] for name, load in self.loads.items()}

    @property
    def releases(self) -> dict[str, set[str]]:
        """Which releases have answered."""
        return {name: {one.release for one in load.results} for name, load in self.loads.items()}

    def await_answers(self) -> None:
        """Wait until requests that are sent from now on are answered."""
        for name, load in self.loads.items():
            now = time.monotonic() - load.started
            eventually(lambda load=load, now=now: any(one.due > now for one in load.results), f"answers by {name}")

    def recorded(self) -> tuple[dict[int, int], list[int]]:
        """See the function of that name."""
        return recorded([one for load in self.loads.values() for one in load.results], [self.host])


def await_answers(load: Load) -> None:
    """Wait until requests that are sent from now on are answered."""
    now = time.monotonic() - load.started
    eventually(lambda: any(one.due > now and not one.failed for one in load.results), "answers")


def recorded(results: list[Result], hosts: list[Host], app: str = "counter") -> tuple[dict[int, int], list[int]]:
    """By the app's own record: the requests that it got more than once, and those that it answered but never got.

    A GET may come again after its connection was closed: the client says which did.
    """
    record = "\n".join(host.check_output(f"cat /srv/{app}/shared/requests.log") for host in hosts)
    ours = {one.number for one in results}
    again = {one.number for one in results if one.repeated}
    lines = [line for line in record.splitlines() if int(line.split()[0]) in ours - again]
    return duplicates("\n".join(lines)), missing(results, record)


NONE_FAILED: dict[str, list[str]] = {name: [] for name in PORTS}


@contextmanager
def under_load(host: Host, rate: float = 60) -> Iterator[Loads]:
    """Both loads while the block runs, which begins once both are answered."""
    loads = Loads(host, rate)
    with ExitStack() as stack:
        for load in loads.loads.values():
            stack.enter_context(load)
        loads.await_answers()
        yield loads
