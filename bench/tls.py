#!/usr/bin/env python3
"""Measures what https costs nginx, beside an nginx that is set up by hand with the same settings.

Both run in one container with the same app and the same files. Counted are the CPU seconds of their own processes.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import server
from figures import ratio, table

INVENTORY = server.ROOT / "bench/tls"
CONTAINER = "bench-tls1"
KEYS = server.CACHE / "tls"
PATHS = {"static file": "/static/counter.css", "app": "/healthz"}
CONNECTIONS = 32
MOST = 1000 * CONNECTIONS  # requests: nginx ends a connection after 1000 (keepalive_requests); h2load opens no other
DIFFERENT = ("Date:", "X-Request-ID:", "X-Release:")  # headers
inside = partial(server.inside, container=CONTAINER)


@dataclass(frozen=True)
class Way:
    """An nginx: the file with its process id, and where it serves the app."""

    pid_file: str
    http: int
    https: int


WAYS = {"flaskfleet": Way("/run/nginx.pid", 80, 443), "by hand": Way("/run/by_hand.pid", 8081, 8444)}


@dataclass(frozen=True)
class Kind:
    """What is measured: the command that asks nginx in the container, and how often it asks."""

    name: str
    argv: tuple[str, ...]
    number: int
    is_https: bool = True

    def run(self, way: Way) -> None:
        """Ask; raises RuntimeError if not every answer is as it should be."""
        port = str(way.https if self.is_https else way.http)
        output = inside(*(word.format(port=port, number=self.number) for word in self.argv))
        if self.argv[0] == "h2load" and answered(output) != self.number:
            raise RuntimeError(f"{self.name}: not all of {self.number} requests were answered with 200:\n{output}")


def answered(output: str) -> int:
    """How many requests were answered with a status of 200 to 299, as h2load tells it."""
    found = re.search(r"^status codes: (\d+) 2xx", output, re.MULTILINE)
    return int(found[1]) if found else 0


def kinds(handshakes: int, requests: int) -> list[Kind]:
    """All that is measured. An app is slower, and gets a fifth of the requests."""
    found = [
        Kind(f"{kind} handshakes", ("python3", "/root/handshakes.py", "{port}", "counter.bench", "{number}", kind),
             handshakes)
        for kind in ("full", "resumed")
    ]  # fmt: skip
    for what, path in PATHS.items():
        for protocol, host, options in (
            ("http, HTTP/1.1", "http://plain.bench", ("--h1",)),
            ("https, HTTP/1.1", "https://counter.bench", ("--h1",)),
            ("https, HTTP/2", "https://counter.bench", ("-m8",)),
        ):
            target = ("--connect-to=127.0.0.1:{port}", f"{host}{path}")
            argv = ("h2load", "-n{number}", f"-c{CONNECTIONS}", *options, *target)
            number = requests if what == "static file" else requests // 5
            found.append(Kind(f"{what}, {protocol}", argv, number, host.startswith("https")))
    return found


def cpu_seconds(way: Way) -> float:
    """CPU seconds of an nginx since it started: those of its master and its workers (proc_pid_schedstat)."""
    script = f"master=$(cat {way.pid_file}); for pid in $master $(pgrep -P $master); do cat /proc/$pid/schedstat; done"
    return sum(int(line.split()[0]) for line in inside("sh", "-c", script).splitlines()) / 1e9


def answer(way: Way, is_https: bool, path: str) -> list[str]:
    """The lines of an answer, without those that differ between any two."""
    url = f"https://counter.bench{path}" if is_https else f"http://plain.bench{path}"
    to = f"::127.0.0.1:{way.https if is_https else way.http}"
    lines = inside("curl", "--silent", "--insecure", "--http1.1", "--include", "--connect-to", to, url).splitlines()
    return sorted(line for line in lines if not line.startswith(DIFFERENT))


def see_same() -> None:
    """Raise RuntimeError unless both answer the same: a header less is less work."""
    for path in PATHS.values():
        for is_https in (True, False):
            ours, theirs = (answer(way, is_https, path) for way in WAYS.values())
            if ours != theirs:
                raise RuntimeError(f"{path} is answered differently by the nginx set up by hand:\n{ours}\n{theirs}")


@contextmanager
def provisioned() -> Iterator[None]:
    """The container with both, that is gone afterwards whatever happens."""
    server.run([sys.executable, "molecule/shared/certificates.py", str(KEYS), "counter=counter.bench"])
    with server.provisioned(INVENTORY):
        for name in ("by_hand.conf", "handshakes.py"):
            server.run(["docker", "cp", str(INVENTORY / name), f"{CONTAINER}:/root/{name}"])
        inside("nginx", "-c", "/root/by_hand.conf")
        see_same()
        yield


def measure(todo: Sequence[Kind], rounds: int) -> dict[tuple[str, str], list[float]]:
    """How often each nginx did each thing per CPU second, by turns; the first round is not counted."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for kind in todo:
            for name, way in list(WAYS.items())[:: 1 if number % 2 else -1]:
                before = cpu_seconds(way)
                kind.run(way)
                rate = kind.number / (cpu_seconds(way) - before)
                if number:
                    found[kind.name, name].append(rate)
        print(f"    {number} of {rounds}{'' if number else ' (not counted)'}", flush=True)
    return found


def report(found: Mapping[tuple[str, str], Sequence[float]]) -> str:
    """A table, in Markdown."""
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in found):
        values = [found[kind, way] for way in WAYS]
        cells = [f"{statistics.median(all_):.0f} ({min(all_):.0f} to {max(all_):.0f})" for all_ in values]
        rows.append((kind, *cells, ratio(*(statistics.median(all_) for all_ in values))))
    return f"""# What https costs, beside nginx set up by hand

{os.cpu_count()} CPUs, Linux {platform.release()}. Handshakes and requests per CPU second of nginx, by turns; medians
(least to most). TLS 1.3, a certificate of P-256. By hand is one server block with the same settings,
bench/tls/by_hand.conf.
A ratio above 1 is in favour of flaskfleet.

{table(("", *WAYS, "ratio"), rows)}
"""


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="of all measurements (%(default)s)")
    parser.add_argument("--handshakes", type=int, default=2000, help="of each kind and round (%(default)s)")
    parser.add_argument("--requests", type=int, default=20_000, help="of each kind and round (%(default)s)")
    options = parser.parse_args()
    if min(options.rounds, options.handshakes) < 1 or not 100 <= options.requests <= MOST:
        parser.error(f"--rounds and --handshakes must be at least 1, --requests from 100 to {MOST}")
    server.CACHE.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the container is removed
    print("Making a server", flush=True)
    with provisioned():
        print("Measuring", flush=True)
        text = report(measure(kinds(options.handshakes, options.requests), options.rounds))
    (server.CACHE / "tls.md").write_text(text)
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"{error}")
