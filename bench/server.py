"""The container that is measured, and the playbooks that make, change and remove it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache/bench"
INVENTORY = ROOT / "bench/inventory"
APP = "counter"
SERVER_NAME = "counter.bench"
HOST = "bench1"
ADDRESS: str = yaml.safe_load((INVENTORY / "hosts.yml").read_text())["app_servers"]["hosts"][HOST]["ansible_host"]
NGINX, UWSGI = f"http://{ADDRESS}", f"http://{ADDRESS}:8080"


def command(playbook: str, *extra: str) -> list[str]:
    """The command that runs a playbook; ``extra`` are variables, like ``build=1``."""
    return ["ansible-playbook", f"{playbook}.yml", "-i", str(INVENTORY), *(f"-e{one}" for one in extra)]


def run(argv: list[str], environment: Mapping[str, str] | None = None) -> tuple[float, float, str]:
    """Run a command in the project; returns ``time.monotonic()`` before and after it, and what it said.

    Raises RuntimeError with the end of that if it fails.
    """
    started = time.monotonic()
    done = subprocess.run(
        argv, cwd=ROOT, env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return started, time.monotonic(), done.stdout


def inside(*argv: str) -> str:
    """What a command says in the container."""
    return run(["docker", "exec", f"flaskfleet-{HOST}", *argv])[2]


@contextmanager
def provisioned() -> Iterator[None]:
    """A container, with the app live on it, that is gone afterwards whatever happens."""
    try:
        run(command("lab/up"))
        run(command("site"))
        yield
    finally:
        run(command("lab/remove"))
