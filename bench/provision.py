#!/usr/bin/env python3
"""Measures how long a fresh server takes to its first answer, with the wheels there, beside the least that could do it.

The least is one shell script over ssh: apt, the unpacking of the files that an answer needs, a start.
It checks nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import costs
import server
from figures import duration_table, ratio

PACKAGES = ["dpkg-query", "--show", "--showformat", "${Package}\n"]
WRITTEN = [
    f"srv/{server.APP}",
    f"var/log/{server.APP}",
    "etc/nginx",
    "etc/supervisor",
    "etc/sysctl.d",
    "etc/systemd/system",
    "usr/local/share/ca-certificates",
]
SCRIPT = """set -e
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends {packages}
rm /usr/sbin/policy-rc.d
useradd --system --uid {uid} --home-dir /srv/{app} --no-create-home --shell /usr/sbin/nologin {app}
tar --extract --directory /
update-ca-certificates
systemctl daemon-reload
systemctl restart supervisor nginx
"""


@contextmanager
def fresh() -> Iterator[None]:
    """A container on which nothing is, that is gone afterwards whatever happens."""
    try:
        server.run(server.command("lab/up"))
        yield
    finally:
        server.run(server.command("lab/remove"))


def packages() -> set[str]:
    """The names of the container's packages."""
    return set(server.inside(*PACKAGES).split())


def flaskfleet() -> costs.Cost:
    """Provision as users do."""
    return costs.measured(server.command("site"), server.CACHE / "site.log", server.NGINX, "ok")


def recorded(tree: Path) -> str:
    """Provision, keep all that was written in a tar; the script that leads there."""
    before = packages()
    flaskfleet()
    script = SCRIPT.format(
        packages=shlex.join(sorted(packages() - before)),
        uid=server.inside("id", "-u", server.APP).strip(),
        app=server.APP,
    )
    tar = f"tar -c -C / --exclude=*.sock {shlex.join(WRITTEN)} || test $? = 1"  # a log grows meanwhile
    with tree.open("wb") as file:
        subprocess.run(["docker", "exec", f"flaskfleet-{server.HOST}", "sh", "-c", tar], stdout=file, check=True)
    return script


def least(script: str, tree: Path, control: str) -> costs.Cost:
    """Provision by the script."""
    argv = ["sh", "-c", f"{shlex.join(costs.ssh(script, control))} < {shlex.quote(str(tree))}"]
    return costs.measured(argv, server.CACHE / "script.log", server.NGINX, "ok")


def measure(rounds: int) -> dict[str, list[costs.Cost]]:
    """Provision each way by turns, each time a fresh container."""
    measured: dict[str, list[costs.Cost]] = {"one script": [], "flaskfleet": []}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tree = Path(folder, "tree.tar")
        with fresh():
            script = recorded(tree)  # it fills the wheelhouse, too
        for number in range(1, rounds + 1):
            with fresh():
                measured["flaskfleet"].append(flaskfleet())
            with fresh():
                measured["one script"].append(least(script, tree, f"{folder}/ssh{number}"))
            said = ", ".join(f"{name} {all_[-1].answered:.1f} s" for name, all_ in measured.items())
            print(f"    {number} of {rounds}: {said}", flush=True)
    return measured


def report(measured: dict[str, Sequence[costs.Cost]]) -> str:
    """Tables, in Markdown."""
    answered = {way: [cost.answered for cost in all_] for way, all_ in measured.items()}
    cpu = {f"{way}, controller's CPU": [cost.cpu for cost in all_] for way, all_ in measured.items()}
    times = ratio(*(statistics.median(answered[way]) for way in ("flaskfleet", "one script")))
    return f"""# A fresh server, until the app's first answer

{os.cpu_count()} CPUs, Linux {platform.release()}; the wheelhouse is filled. By turns; {times} times the script.

{duration_table({**answered, **cpu})}
"""


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="fresh servers each way (%(default)s)")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    server.CACHE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the container is removed
    text = report(measure(options.rounds))
    (server.CACHE / "provision.md").write_text(text)
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"{error}")
