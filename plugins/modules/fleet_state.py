#!/usr/bin/python
"""What a host's records say that it should be, held against what it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_state
short_description: What runs on a host, and what differs from what was written there
description:
  - Only looks. Reads the records below C(/var/lib/flaskfleet), also of apps that are no longer in the inventory, and
    asks Supervisor, uWSGI, nginx and dpkg.
options:
  address:
    description: An address that several hosts share.
    type: str
    default: ""
author: flaskfleet
"""

EXAMPLES = r"""
- name: Look
  fleet_state:
  register: state
"""

RETURN = r"""
apps:
  description: >-
    Per app what is C(live), C(since) when, by whom (C(by), C(what), C(source)), its C(programs), the releases
    C(on_disk), the record of the holder of its C(lock), what was C(edited), the seconds that requests have taken which
    should be over (C(stuck)), and whether the host has its C(singletons) (null where there are none).
  type: list
  elements: dict
  returned: success
drift:
  description: What is not as it was written or should run, in words.
  type: list
  elements: str
  returned: success
platform:
  description: The distribution and the architecture, like C(Debian GNU/Linux 12 x86_64).
  type: str
  returned: success
disk:
  description: By mount point C(free) and C(size) in bytes.
  type: dict
  returned: success
certificates:
  description: >-
    The certificates that nginx serves, each with C(name), C(issuer), and C(since) and C(until) in epoch seconds.
  type: list
  elements: dict
  returned: success
drained:
  description: On a load balancer, the hosts that it has drained, why and since when, in words.
  type: list
  elements: str
  returned: success
maintenance:
  description: The apps whose maintenance page is shown, why and since when, in words.
  type: list
  elements: str
  returned: success
has_address:
  description: Whether the host has O(address).
  type: bool
  returned: success
now:
  description: The host's time in epoch seconds.
  type: int
  returned: success
"""

import os
import platform
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet import app_state, certificates
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.drains import describe
from ansible.module_utils.flaskfleet.files import read_json
from ansible.module_utils.flaskfleet.programs import RUNNING
from ansible.module_utils.flaskfleet.services import supervisor, uwsgi_workers
from ansible.module_utils.flaskfleet.trees import Tree

STATE = Path("/var/lib/flaskfleet")
SILENT = SimpleNamespace(getAllProcessInfo=list)  # a Supervisor that does not answer
Report = dict[str, Any]


def look(state: Path, rpc: Any, root: Path = Path("/")) -> Report:
    """The module's result.

    :param rpc: Supervisor's interface; without an answer its programs count as unknown, and that as drift.
    """
    trees = [Tree(path.parent.name, state / "trees", root) for path in sorted(state.glob("trees/*/manifest.json"))]
    trees = [tree for tree in trees if (read_json(tree.manifest) or {}).get("files")]
    drift = [f"{name} does not run" for name in map(service_of, trees) if name and not is_active(name)]
    try:
        processes = rpc.getAllProcessInfo()
    except OSError:
        processes, rpc = [], SILENT
    names = sorted(path.stem for path in state.glob("apps/*.json"))
    apps = [App(name, rpc, root) for name in names if (root / "srv" / name / "current").is_symlink()]
    reports: list[Report] = []
    programs: set[str] = set()
    for app in apps:
        try:
            reports.append({**app_state.report(app), "stuck": stuck(app)})
            programs.update(expected(app))
        except (OSError, ValueError, LookupError, TypeError, RuntimeError) as error:  # the others are told
            drift.append(f"{app.name} can't be looked at: {type(error).__name__}: {error}")
    drift += [words for tree in trees for words in tree.edited()]
    drift += [f"{tree.state.name} runs another configuration than the one on disk" for tree in trees if tree.pending()]
    drift += [words for report in reports for words in report["edited"]]
    if rpc is not SILENT:
        drift += programs_drift(processes, apps, programs)
    drift += packages_drift(state / "base.fact")
    served, words = look_at_certificates(state, root)
    return {
        "apps": reports,
        "now": int(time.time()),
        "drift": drift + words,
        "certificates": served,
        "platform": distribution(root),
        "disk": {path: usage(path) for path in sorted({mount(root / "srv"), mount(root / "var/log"), mount(root)})},
        "maintenance": [path.read_text().strip() for path in sorted(state.glob("maintenance/[!.]*"))],
        "drained": [describe(flag) for path in sorted(state.glob("drain/[!.]*")) if (flag := read_json(path))],
    }


def look_at_certificates(state: Path, root: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The certificates that nginx serves, and the drift of them."""
    try:
        served = certificates.served(state, root)
    except (OSError, ValueError) as error:
        return [], [str(error)]
    return served, certificates.drift(served, time.time()) + certificates.acme_drift(state, root)


def service_of(tree: Tree) -> str | None:
    """The service that reads a tree. Before site.yml has written the record anew, the tree's name tells."""
    earlier = tree.state.name if tree.state.name in ("keepalived", "nginx", "supervisor") else None
    service: str | None = read_json(tree.manifest).get("service", earlier)
    return service


def is_active(service: str) -> bool:
    """Whether a service runs."""
    return not subprocess.run(["service", service, "status"], capture_output=True, check=False).returncode


def stuck(app: App) -> list[int]:
    """The seconds that requests to the live release have taken, of those that take more than half of what they may."""
    live, found = app.paths.live(), []
    assert live
    limit = app.paths.entry(live)["harakiri_seconds"] / 2
    with suppress(OSError):
        for worker in uwsgi_workers(str(app.paths.path(live) / "run" / "stats.sock")):
            found += [int(took) for began in worker.running if limit < (took := time.time() - began) < 86400]
    return sorted(found, reverse=True)


def programs_drift(processes: list[dict[str, Any]], apps: list[App], programs: set[str]) -> list[str]:
    """Programs of Supervisor that are not ours, and those of ours that do not run, or are not there."""
    known = {process["group"] for process in processes}
    ours = {program for program in known if any(app.programs.owns(program) for app in apps)}
    strange = sorted(known - ours)
    stopped = [
        f"program {process['group']} is {process['statename']}"
        for process in processes
        if process["group"] in ours and process["statename"] not in RUNNING
    ]
    missing = [f"program {program} is not known to Supervisor" for program in sorted(programs - known)]
    return [f"program {name} is not flaskfleet's" for name in strange] + stopped + missing


def expected(app: App) -> list[str]:
    """The programs of the live release."""
    live = app.paths.live()
    return [app.programs.name(live), *app.programs.further(live)] if live else []


def packages_drift(record: Path) -> list[str]:
    """The packages of which there is less than what was there when they were asked for; more is fine."""
    try:
        lines = record.read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
    asked = dict(line.split("=", 1) for line in lines if "=" in line)
    argv = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}=${Version}\n", *asked]
    shown = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()
    there = dict(line.partition(" ")[2].split("=", 1) for line in shown if line.startswith("installed "))
    words = [f"package {name} was removed" for name in asked if name not in there]
    for name, version in there.items():
        less = ["dpkg", "--compare-versions", version, "lt", asked.get(name, version)]
        if version != asked.get(name, version) and not subprocess.run(less, check=False).returncode:
            words.append(f"package {name} is at {version}, below {asked[name]}")
    return words


def distribution(root: Path) -> str:
    """The distribution and the architecture."""
    with suppress(FileNotFoundError):
        for line in (root / "etc/os-release").read_text().splitlines():
            if line.startswith("PRETTY_NAME="):
                return f"{line.partition('=')[2].strip(chr(34))} {platform.machine()}"
    return platform.machine()


def mount(path: Path) -> str:
    """The mount point of a path."""
    while not os.path.ismount(path) and path != path.parent:
        path = path.parent
    return str(path)


def usage(path: str) -> dict[str, int]:
    """What is free on a file system, and how large it is."""
    total, _, free = shutil.disk_usage(path)
    return {"free": free, "size": total}


def has_address(address: str) -> bool:
    """Whether this host has an address: nobody else may bind to it."""
    with suppress(OSError), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return bool(address)
    return False


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={"address": {"type": "str", "default": ""}}, supports_check_mode=True)
    found = look(STATE, supervisor("/run/supervisor.sock"))
    module.exit_json(changed=False, **found, has_address=has_address(module.params["address"].partition("/")[0]))


if __name__ == "__main__":
    main()
