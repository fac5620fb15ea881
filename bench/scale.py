#!/usr/bin/env python3
"""Measures what runs cost on 1, 3 and 10 light app servers, beside pyinfra that leads to the same end state.

Both have the same packages, user, folders, files and services to look at, and an app behind Supervisor to replace.
pyinfra copies the code, renames a link and restarts a program: it refuses requests meanwhile, and checks, keeps and
drains nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import costs
import server
from figures import ratio, table

INVENTORIES = server.ROOT / "bench/scale"
SIZES = (1, 3, 10)
FIRST = 171  # last number of the first server's address
KEYS = server.CACHE / "keys-scale"
STATE, TREE = server.CACHE / "scale.json", server.CACHE / "scale"
HOME, PORT = "/srv/peer", 8104
GIVE_UP_SECONDS = 30
WAYS = ("flaskfleet", "pyinfra")
RUNS = ("no change", "deploy", "rollback")
FIGURES = {"seconds": "s", "controller": "controller's CPU s per host", "host": "host's CPU s"}


@dataclass(frozen=True)
class Run:
    """Seconds that a run took, and CPU seconds per host: the controller's for it, and its own."""

    seconds: float
    controller: float
    host: float


def container(number: int) -> str:
    """The name of a server's container."""
    return f"bench-scale-app{number:02d}"


def address(number: int) -> str:
    """The address of a server."""
    return f"172.30.77.{FIRST + number - 1}"


def busy() -> float:
    """CPU seconds that the machine has worked since it started, of which other machines took none (proc_stat(5))."""
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def idle_rate(seconds: float) -> float:
    """CPU seconds per second that the machine works while nothing is done."""
    before, started = busy(), time.monotonic()
    time.sleep(seconds)
    return (busy() - before) / (time.monotonic() - started)


def record() -> None:
    """Keep on the controller what the roles wrote on the first server, for pyinfra to write the same."""
    first = container(1)
    manifests = server.inside("sh", "-c", "cat /var/lib/flaskfleet/trees/*/manifest.json", container=first)
    attributes: dict[str, dict[str, str]] = {}
    decoder, rest = json.JSONDecoder(), manifests
    while rest := rest.lstrip():
        manifest, end = decoder.raw_decode(rest)
        rest = rest[end:]
        for path, file in manifest["files"].items():
            attributes[path] = {"mode": file["mode"][1:], "user": file["owner"], "group": file["group"]}
    shutil.rmtree(TREE, ignore_errors=True)
    for path in attributes:
        (TREE / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        server.run(["docker", "cp", f"{first}:{path}", str(TREE / path[1:])])
    versions = server.inside("cat", "/var/lib/flaskfleet/base.fact", container=first).splitlines()
    app = f"/srv/{server.APP}"
    stat = ["stat", "--format", "%n %a %U %G", app, f"{app}/releases", f"{app}/venvs", f"{app}/shared"]
    folders = [line.split() for line in server.inside(*stat, container=first).splitlines()]
    STATE.write_text(json.dumps({
        "app": server.APP,
        "packages": [line.partition("=")[0] for line in versions if "=" in line],
        "folders": {path: {"mode": mode, "user": user, "group": group} for path, mode, user, group in folders},
        "files": attributes,
    }))  # fmt: skip


def flaskfleet(size: int, run: str, source: Path) -> list[str]:
    """The command as users have it."""
    playbook = {"no change": "site", "deploy": "playbooks/deploy", "rollback": "playbooks/rollback"}[run]
    return server.command(playbook, f"counter_source={source}", inventory=INVENTORIES / f"{size}.yml")


def pyinfra(size: int, run: str, source: Path, release: str, venv: str) -> list[str]:
    """The same with pyinfra; ``release`` names the folder of the code."""
    uwsgi = costs.uwsgi(venv, HOME, PORT, processes=1)
    data = {
        "ssh_known_hosts_file": KEYS / "known_hosts", "state": STATE, "tree": TREE, "source": source, "home": HOME,
        "release": release, "program": f"[program:peer]\ncommand={uwsgi}\nredirect_stderr=true\n",
    }  # fmt: skip
    scripts = ("peer_site.py", "peer_release.py") if run == "no change" else ("peer_release.py",)
    return [
        "pyinfra", "-y", "--user", "root", "--key", str(KEYS / "id_ed25519"),
        *(f"--data={name}={value}" for name, value in data.items()),
        ",".join(address(number + 1) for number in range(size)), *(str(INVENTORIES / script) for script in scripts),
    ]  # fmt: skip


def see(size: int, url: str, text: str) -> None:
    """Raise RuntimeError unless all servers come to answer ``text``."""
    for number in range(size):
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while (said := costs.answer(url.format(address(number + 1)))) != text:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{address(number + 1)} answers {said!r} instead of {text!r}")
            time.sleep(0.1)


def measured(command: list[str], size: int, name: str, idle: float) -> Run:
    """Run a command on so many hosts."""
    before = busy()
    cost = costs.measured(command, server.CACHE / f"scale-{name}.log")
    hosts = max(0.0, busy() - before - cost.cpu - idle * cost.ended)
    return Run(cost.ended, cost.cpu / size, hosts / size)


def one_round(size: int, number: int, venv: str) -> dict[tuple[str, str], Run]:
    """The cost of each run each way: nothing to do, changed code, and back to the old code."""
    runs = {}
    base = server.ROOT / "molecule/shared/apps" / server.APP
    new = f"ok {size} {number}"
    costs.change(new)
    idle = idle_rate(5)
    for run in RUNS:
        source, text = (costs.SOURCE, new) if run == "deploy" else (base, "ok")
        release = f"{size}-{number}" if run == "deploy" else "base"
        for way in WAYS if number % 2 else reversed(WAYS):
            if way == "flaskfleet":
                command, url = flaskfleet(size, run, source), "http://{}"
            else:
                command, url = pyinfra(size, run, source, release, venv), f"http://{{}}:{PORT}"
            runs[run, way] = measured(command, size, way, idle)
            see(size, url, text)
    return runs


def unchanged(size: int, venv: str) -> None:
    """Raise RuntimeError unless either way finds all as it should be."""
    base = server.ROOT / "molecule/shared/apps" / server.APP
    said = server.run(flaskfleet(size, "no change", base))[2]
    if said.count(" changed=0 ") != size + said.count("localhost"):
        raise RuntimeError(f"flaskfleet finds changes:\n{said}")
    said = server.run(pyinfra(size, "no change", base, "base", venv))[2]
    total = next(line.split() for line in said.splitlines() if "Grand total" in line)
    if total[-3] != "-":
        raise RuntimeError(f"pyinfra finds changes:\n{said}")


def measure(sizes: Sequence[int], rounds: int) -> dict[tuple[int, str, str], list[Run]]:
    """All runs each way by turns, on each of these numbers of servers; the first round is not counted."""
    found: dict[tuple[int, str, str], list[Run]] = defaultdict(list)
    record()
    link = server.inside("readlink", "-f", f"/srv/{server.APP}/current/venv", container=container(1))
    venv = link.strip()
    base = server.ROOT / "molecule/shared/apps" / server.APP
    server.run(pyinfra(max(sizes), "no change", base, "base", venv))
    unchanged(max(sizes), venv)
    for number in range(rounds + 1):
        for size in sizes:
            runs = one_round(size, number, venv)
            said = ", ".join(f"{run} {way} {cost.seconds:.1f} s" for (run, way), cost in runs.items())
            print(f"    {number} of {rounds}, {size}: {said}{'' if number else ' (not counted)'}", flush=True)
            if number:
                for (run, way), cost in runs.items():
                    found[size, run, way].append(cost)
    return found


def report(found: dict[tuple[int, str, str], Sequence[Run]]) -> str:
    """A table, in Markdown."""
    rows = []
    for size in sorted({size for size, _, _ in found}):
        for run in RUNS:
            cells = []
            for figure in FIGURES:
                values = [[getattr(one, figure) for one in found[size, run, way]] for way in WAYS]
                cells += [f"{statistics.median(all_):.2f} ({min(all_):.2f} to {max(all_):.2f})" for all_ in values]
                cells.append(ratio(*(statistics.median(all_) for all_ in values)))
            rows.append((f"{size}, {run}", *cells))
    head = ["servers, run"]
    for what in FIGURES.values():
        head += [what, "pyinfra", "ratio"]
    return f"""# What runs cost, beside pyinfra

{os.cpu_count()} CPUs, Linux {platform.release()}, on which controller and servers are. By turns, medians (least to
most). pyinfra only copies, links and restarts.

{table(head, rows)}
"""


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="of all runs (%(default)s)")
    parser.add_argument("--servers", type=int, nargs="+", choices=SIZES, default=SIZES, help="1, 3, 10 or some of them")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    server.CACHE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the containers are removed
    most = max(options.servers)
    print(f"Making {most} servers", flush=True)
    with server.provisioned(INVENTORIES / f"{most}.yml"):
        text = report(measure(options.servers, options.rounds))
    (server.CACHE / "scale.md").write_text(text)
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"{error}")
