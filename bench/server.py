"""The containers that are measured, and the playbooks that make, change and remove them."""

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


def command(playbook: str, *extra: str, inventory: Path = INVENTORY) -> list[str]:
    """The command that runs a playbook; ``extra`` are variables, like ``build=1``."""
    return ["ansible-playbook", f"{playbook}.yml", "-i", str(inventory), *(f"-e{one}" for one in extra)]


def run(argv: list[str], environment: Mapping[str, str] | None = None) -> tuple[float, float, str]:
    """Run a command in the project; returns ``time.monotonic()`` before and after it, and its output.

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


def inside(*argv: str, container: str = f"flaskfleet-{HOST}") -> str:
    """The output of a command in a container."""
    return run(["docker", "exec", container, *argv])[2]


@contextmanager
def provisioned(inventory: Path = INVENTORY) -> Iterator[None]:
    """The containers of an inventory, with the app live on them, that are gone afterwards whatever happens."""
    try:
        run(command("lab/up", inventory=inventory))
        run(command("site", inventory=inventory))
        yield
    finally:
        run(command("lab/remove", inventory=inventory))
