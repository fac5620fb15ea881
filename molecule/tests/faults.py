"""Causing faults on a host, and waiting for its recovery."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from conftest import PROJECT, Answer
from testinfra.host import Host

BACK_WITHIN = 10  # seconds, as the README promises
AT_MOST = 60  # seconds to wait for anything else


class Load:
    """Four clients that ask up to a hundred times a second. ``answers`` are (seconds, status), status 0 for none."""

    def __init__(self, get: Callable[..., Answer], server_name: str, url: str = "/healthz") -> None:
        self.answers: list[tuple[float, int]] = []
        self._ask = lambda: get(url, server_name).status
        self._end = threading.Event()
        self._clients = [threading.Thread(target=self._run) for _ in range(4)]

    def _run(self) -> None:
        while not self._end.wait(0.01):
            try:
                status = self._ask()
            except OSError:
                status = 0
            self.answers.append((time.monotonic(), status))

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        eventually(lambda: any(status == 200 for _, status in self.answers), "an answer before the fault")
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for client in self._clients:
            client.join()

    def await_answers(self, since: float) -> None:
        """Wait until the app answers again; it must within the promised time."""
        eventually(
            lambda: sum(status == 200 for at, status in list(self.answers) if at > since) > 9, "answers", BACK_WITHIN
        )

    @property
    def failed(self) -> list[int]:
        """The answers other than 200."""
        return [status for _, status in self.answers if status != 200]


def eventually(condition: Callable[[], Any], what: str, within: float = AT_MOST) -> Any:
    """Wait until a condition returns something true; the result."""
    end = time.monotonic() + within
    while not (result := condition()):
        assert time.monotonic() < end, f"{what}: not within {within} seconds"
        time.sleep(0.05)
    return result


@contextmanager
def background(task: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run a function in a thread; the list has its result after the block."""
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(task()))
    thread.start()
    try:
        yield result
    finally:
        thread.join()


class Play:
    """A run of a playbook from the controller against one host of the scenario."""

    def __init__(
        self, playbook: str, host: Host, *arguments: str, variables: dict[str, Any] | None = None,
        announces: bool = False,
    ) -> None:  # fmt: skip
        """Begin it. One that ``announces`` its tasks can be met at one of them: see reach and kill_at."""
        command = ["ansible-playbook", playbook, "-i", os.environ["MOLECULE_INVENTORY_FILE"].rpartition("/")[0]]
        command += ["--limit", host.backend.get_hostname(), "-e", json.dumps(variables or {}), *arguments]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
        if announces:
            environment |= {"ANSIBLE_STDOUT_CALLBACK": "default", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "0"}
        self.process = subprocess.Popen(
            command, cwd=PROJECT, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.output = ""

    def wait(self) -> int:
        """Wait for its end."""
        self.output += self.process.communicate()[0]
        return self.process.returncode

    def reach(self, task: str) -> None:
        """Wait until the run reports a task."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if task in line:
                return
        pytest.fail(f"it never came to {task}:\n{self.output}")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the run (SIGSTOP) while the block runs."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def kill_at(self, task: str) -> None:
        """Kill the run when it reports a task."""
        self.reach(task)
        self.kill()

    def kill(self) -> None:
        """Kill the run and all its processes on this machine, like a power cut."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: int) -> None:
        """Send a signal to it and to its children, which are in sessions of their own."""
        family = {self.process.pid}
        for line in subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True).stdout.splitlines():
            pid, parent = map(int, line.split())
            family |= {pid} if parent in family else set()
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @property
    def changed(self) -> int:
        """How many tasks changed something, from the recap."""
        return sum(map(int, re.findall(r"changed=(\d+)", self.output)))


def site(host: Host, *arguments: str, **variables: Any) -> Play:
    """Run site.yml to its end."""
    play = Play("site.yml", host, *arguments, variables=variables)
    play.wait()
    return play


def running_tree(host: Host) -> str:
    """The tree that nginx runs."""
    return host.check_output("curl -s --unix-socket /var/lib/nginx/flaskfleet.sock http://x/tree")


def written_tree(host: Host) -> str:
    """The tree that is on disk."""
    return json.loads(host.file("/var/lib/flaskfleet/trees/nginx/manifest.json").content_string)["tree"]


def pids(host: Host, pattern: str) -> set[int]:
    """The processes whose command line matches."""
    return set(map(int, host.run("pgrep -f %s", pattern).stdout.split()))


def stack(host: Host) -> dict[str, int]:
    """How many processes there are of each kind; an orphan is one whose parent is init."""
    lines = host.check_output("ps -ww -eo ppid=,args=").splitlines()
    rows = [line.split(None, 1) for line in lines]
    return {
        "masters": sum("hello uWSGI master" in args for _, args in rows),
        "workers": sum("hello uWSGI worker" in args for _, args in rows),
        "orphans": sum("uWSGI" in args and parent == "1" for parent, args in rows),
        "supervisord": sum("bin/supervisord -n" in args for _, args in rows),
        "nginx masters": sum(args.startswith("nginx: master") for _, args in rows),
    }


OK_APP = "def app(environ, start):\n    start('200 OK', [])\n    return [b'ok']"
# Listens on a unix socket for some seconds, and leaves its file.
LISTEN = (
    "python3 -c 'import socket, sys, time; s = socket.socket(1); s.bind(sys.argv[1]); s.listen(); "
    "time.sleep(int(sys.argv[2]))' %s %s"
)


def busy_workers(host: Host, app: str = "hello") -> list[int]:
    """The workers that have a request, from uWSGI's stats."""
    read = "import socket, sys; s = socket.socket(1); s.connect(sys.argv[1]); print(s.makefile().read())"
    stats = f"/srv/{app}/current/run/stats.sock"
    workers = json.loads(host.check_output("python3 -c %s %s", read, stats))["workers"]
    return [worker["id"] for worker in workers if worker["status"] == "busy"]


@contextmanager
def listener(host: Host, port: int) -> Iterator[None]:
    """A foreign server on a port of the host."""
    host.check_output(f"python3 -m http.server {port} >/dev/null 2>&1 & echo started")
    eventually(lambda: host.run(f"ss -Hltn sport = :{port}").stdout, "somebody who listens")
    try:
        yield
    finally:
        host.run(f"pkill -f 'http.server {port}'")
        eventually(lambda: not host.run(f"ss -Hltn sport = :{port}").stdout, "a free port")


ONE_STACK = {"masters": 1, "workers": 4, "orphans": 0, "supervisord": 1, "nginx masters": 1}
PID_OF = {  # what tells it
    "uWSGI's master": "pgrep -f '^uwsgi hello uWSGI master$'",
    "supervisord": "cat /run/supervisord.pid",
    "nginx": "cat /run/nginx.pid",
}
