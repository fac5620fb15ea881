"""Numbered requests by https over HTTP/1.1 and HTTP/2 together, and the steps by which the fleet's CA is replaced."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import load_http2
import pytest
from load import Load, Options
from rollouts import FIRST_NUMBERS, await_answers, recorded
from testinfra.host import Host

RATE = 50  # requests per second over each of the two
TIMES = 20
once_and_often = pytest.mark.parametrize("times", [1, pytest.param(TIMES, marks=pytest.mark.slow)])


class Clients:
    """The two loads."""

    def __init__(self, url: str, server_name: str, trusted: Path) -> None:
        common: dict[str, Any] = {"url": url, "host_header": server_name, "rate": RATE, "ca": str(trusted)}
        self.http_1 = Load(Options(**common, first_number=next(FIRST_NUMBERS)))
        self.http_2 = load_http2.Load(load_http2.Options(**common, first_number=next(FIRST_NUMBERS)))
        self.loads = {"HTTP/1.1": self.http_1, "HTTP/2": self.http_2}

    def await_answers(self) -> None:
        """Wait until requests that are sent from now on are answered, over both."""
        for load in self.loads.values():
            await_answers(load)

    def problems(self, hosts: list[Host], app: str) -> dict[str, Any]:
        """What may not be, by what was answered and by the app's record on these hosts; empty where all is well."""
        failed = [
            f"{name} {one.due:.2f} {one.kind}: {one.reason}" for name, load in self.loads.items() for one in load.failed
        ]
        twice, lost = recorded([one for load in self.loads.values() for one in load.results], hosts, app)
        return {what: those for what, those in {"failed": failed, "twice": twice, "lost": lost}.items() if those}


@contextmanager
def asking(
    url: str, server_name: str, authorities: list[Path], hosts: list[Host], app: str = "counter"
) -> Iterator[Clients]:
    """Ask while the block runs, by clients that trust these CAs; no request may fail, be executed twice or be lost."""
    with tempfile.TemporaryDirectory(prefix="clients-") as folder:
        trusted = Path(folder) / "trusted.pem"
        trusted.write_text("".join(path.read_text() for path in authorities))
        clients = Clients(url, server_name, trusted)
        with ExitStack() as stack:
            for load in clients.loads.values():
                stack.enter_context(load)
            clients.await_answers()
            yield clients
            clients.await_answers()
    problems = clients.problems(hosts, app)
    assert not problems, problems


def replace_ca(folder: Path, site: Callable[[], object]) -> None:
    """Make next.pem the CA in the three steps of roles/tls/README.md, each with a run of site.yml."""
    site()
    for old, new in (("ca", "old"), ("next", "ca")):
        for kind in ("pem", "key"):
            (folder / f"{old}.{kind}").rename(folder / f"{new}.{kind}")
    site()
    for kind in ("pem", "key"):
        (folder / f"old.{kind}").unlink()
    site()
