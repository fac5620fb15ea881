"""The life of a release on a host: staged, warm, live.

::

    /srv/<app>/releases/<id>/   src/ static/<prefix>/ env/ run/ uwsgi.ini supervisor.conf release.json
                                venv -> ../../venvs/<key>
    /srv/<app>/venvs/<key>/     see environments.py
    /srv/<app>/secrets/         one file per variable
    /srv/<app>/shared/          the app's own
    /srv/<app>/current          -> releases/<id>, the only switch

A release is complete at its path or not there. Its Supervisor program is below /run while it is
tried out, so that a reboot forgets it, and moves to conf.d before ``current`` points at it, so that
a reboot at any moment starts what ``current`` points at.
"""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import signal
import tarfile
import time
import xmlrpc.client
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .environments import build_environment
from .files import Busy, group_id, lock, point_symlink, read_json, user_id, write_file, write_json
from .services import uwsgi_request, uwsgi_stats
from .sockets import unix_owners

ALREADY_ADDED = 90  # supervisor.xmlrpc.Faults
BAD_NAME = 10
# What uWSGI says of itself, at each start, before it loads the app.
FIRST = r"\[uWSGI\] getting INI configuration"
BANNER = re.compile(rf"{FIRST}(?:(?!{FIRST}).)*?\*\*\* Operational MODE: [^\n]*\n", re.DOTALL)
SETTLES_WITHIN = 15  # seconds; a program is STARTING for startsecs (3)
RUNNING = {"RUNNING", "STARTING"}


class ReleaseFailed(Exception):
    """A release was refused; the message holds the app's own words. What was live is untouched."""


@dataclass(frozen=True)
class Release:
    """What makes an app run on this host.

    ``files`` are the rendered ones by name. ``static`` maps URL prefixes to folders below the source.
    ``record`` becomes release.json; ``health`` has ``path``, ``host`` and ``timeout_seconds``.
    """

    id: str
    files: dict[str, str]
    env: dict[str, str]
    static: dict[str, str]
    requirements: str
    python: str
    processes: int
    health: dict[str, Any]
    record: dict[str, Any]


class App:
    """An app on this host. ``root`` is / but in tests; ``supervisor`` is its XML-RPC interface."""

    def __init__(self, name: str, web_group: str, supervisor: Any, root: Path = Path("/")) -> None:
        self.name = name
        self.web_group = web_group
        self.supervisor = supervisor
        self.home = root / "srv" / name
        self.logs = root / "var/log" / name
        self.conf_d = root / "etc/supervisor/conf.d"
        self.trial = root / "run/flaskfleet/supervisor.d"
        self.journal = root / "var/lib/flaskfleet/apps" / f"{name}.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Let one run at a time change the app; the kernel ends the lock with its process."""
        try:
            with lock(self.journal.with_suffix(".lock")):
                yield
        except Busy as busy:
            raise ReleaseFailed(f"{self.name}: process {busy} is releasing it right now") from None

    def live(self) -> str | None:
        """The id of the release that ``current`` points at."""
        try:
            return Path(os.readlink(self.home / "current")).name
        except FileNotFoundError:
            return None

    def path(self, release: str) -> Path:
        """Where a release lies."""
        return self.home / "releases" / release

    def program(self, release: str) -> str:
        """The name of a release's Supervisor program."""
        return f"{self.name}-{release}"

    def record(self, release: str) -> dict[str, Any]:
        """What a release was made from."""
        return read_json(self.path(release) / "release.json") or {}

    # staged

    def prepare(self, secrets: dict[str, str]) -> None:
        """Make the app's directories, and bring its secrets to what they are now."""
        uid, gid = user_id(self.name), group_id(self.name)
        for path, owner, group, mode in (
            (self.home, 0, 0, 0o755),
            (self.home / "releases", 0, 0, 0o755),
            (self.home / "venvs", 0, 0, 0o755),
            (self.home / "secrets", 0, gid, 0o750),
            (self.home / "shared", uid, gid, 0o750),
            (self.logs, 0, gid, 0o750),
            (self.trial, 0, 0, 0o755),
        ):
            path.mkdir(parents=True, exist_ok=True)
            os.chown(path, owner, group)
            path.chmod(mode)
        for stale in set(os.listdir(self.home / "secrets")) - set(secrets):
            (self.home / "secrets" / stale).unlink()
        _write_variables(self.home / "secrets", secrets, gid)

    def stage(self, release: Release, archive: Path, wheel: Path) -> None:
        """Build a release aside and rename it to its path. Nothing runs."""
        gid = group_id(self.name)
        environment = build_environment(self.home / "venvs", release.python, release.requirements, wheel)
        final = self.path(release.id)
        aside = final.with_name(f".{release.id}")
        shutil.rmtree(aside, ignore_errors=True)
        (aside / "static").mkdir(parents=True)
        for name, mode, owner, group in (
            ("src", 0o750, 0, gid),
            ("env", 0o750, 0, gid),
            ("run", 0o2750, user_id(self.name), group_id(self.web_group)),
        ):
            (aside / name).mkdir()
            os.chown(aside / name, owner, group)
            (aside / name).chmod(mode)
        _unpack(archive, aside / "src")
        compileall.compile_dir(aside / "src", quiet=2, stripdir=str(aside), prependdir=str(final))
        for prefix, folder in release.static.items():
            shutil.copytree(aside / "src" / folder, aside / "static" / prefix.lstrip("/"), dirs_exist_ok=True)
        (aside / "venv").symlink_to(f"../../venvs/{environment}")
        _write_variables(aside / "env", release.env, gid)
        for name, content in release.files.items():
            write_file(aside / name, content.encode())
        record = json.dumps(release.record, indent=2, sort_keys=True) + "\n"
        write_file(aside / "release.json", record.encode(), 0o640, 0, gid)  # it has the plain environment
        os.sync()
        aside.rename(final)

    # warm

    def warm(self, release: Release) -> None:
        """Run a release beside the live one until every worker has answered its health path.

        :raises ReleaseFailed: it can't; its program is gone, and the message holds its log's end.
        """
        program = self.program(release.id)
        if not (self.conf_d / f"{program}.conf").exists():
            shutil.copy(self.path(release.id) / "supervisor.conf", self.trial / f"{program}.conf")
        try:
            self.start(release.id)
            problem = self._await_workers(release)
        except xmlrpc.client.Fault as fault:
            problem = f"Supervisor refused its program ({fault.faultString})"
        except ReleaseFailed:
            (self.trial / f"{program}.conf").unlink(missing_ok=True)
            raise
        if problem:
            words = self._last_words(release.id)
            self.discard(release.id)
            raise ReleaseFailed(f"{self.name} {release.id} never became live: {problem}. Its log ends with:\n{words}")

    def _await_workers(self, release: Release) -> str | None:
        """Wait until each worker has answered; what is wrong where that doesn't happen."""
        run = self.path(release.id) / "run"
        path, timeout = release.health["path"], release.health["timeout_seconds"]
        variables = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path.partition("?")[0],
            "QUERY_STRING": path.partition("?")[2],
            "REQUEST_URI": path,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": release.health["host"],
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": release.health["host"],
            "HTTP_USER_AGENT": "flaskfleet",
        }
        started = time.monotonic()
        first_pid = 0
        problem = "it does not listen"

        def ask(_: int) -> str | None:
            left = max(0.1, timeout - (time.monotonic() - started))
            try:
                status, body = uwsgi_request(str(run / "uwsgi.sock"), variables, timeout=left)
            except OSError as error:
                return f"{path} gave no answer ({error})"
            return None if status == 200 else f"{path} answered {status}: {body[:200].decode(errors='replace')}"

        with ThreadPoolExecutor(max(2, release.processes)) as pool:
            while time.monotonic() - started < timeout:
                info = self.supervisor.getProcessInfo(self.program(release.id))
                first_pid = first_pid or info["pid"]
                if info["statename"] not in RUNNING or info["pid"] != first_pid:
                    return "its program ended"
                if (run / "uwsgi.sock").exists():
                    problem = next(filter(None, pool.map(ask, range(release.processes))), None) or ""
                    with suppress(OSError, ValueError):
                        workers = uwsgi_stats(str(run / "stats.sock"))["workers"]
                        awake = [worker for worker in workers if worker["status"] != "cheap"]
                        idle = [worker["id"] for worker in awake if not worker["requests"]]
                        if not problem and not idle:
                            return None
                        problem = problem or f"workers {idle} have not answered"
                time.sleep(0.05)
        return f"{problem}, after {timeout} seconds"

    def start(self, release: str) -> None:
        """Have Supervisor run the program of a release, whose file is in place; nothing else is touched.

        :raises ReleaseFailed: another process listens on its socket.
        """
        program = self.program(release)
        socket = self.path(release) / "run" / "uwsgi.sock"
        if self._state(program) not in RUNNING and (owners := unix_owners(str(socket))):
            raise ReleaseFailed(
                f"{socket}: {owners[0].name} (pid {owners[0].pid}) is already listening on the socket; "
                f"it was not started by Supervisor: stop it, kill {owners[0].pid}"
            )
        self.supervisor.reloadConfig()
        try:
            self.supervisor.addProcessGroup(program)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != ALREADY_ADDED:
                raise
        end = time.monotonic() + 10
        while self._state(program) not in RUNNING and time.monotonic() < end:
            with suppress(xmlrpc.client.Fault):
                self.supervisor.startProcess(program, False)
            time.sleep(0.05)

    def discard(self, release: str) -> None:
        """End a release that is not live, at once, with all that is its own."""
        program = self.program(release)
        if state := self._state(program):
            pid = self.supervisor.getProcessInfo(program)["pid"]
            if state not in ("STOPPED", "EXITED", "FATAL"):
                with suppress(xmlrpc.client.Fault):
                    self.supervisor.stopProcess(program, False)
            if pid:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
            self._remove_group(program)
        for folder in (self.trial, self.conf_d):
            (folder / f"{program}.conf").unlink(missing_ok=True)
        self.supervisor.reloadConfig()
        shutil.rmtree(self.path(release), ignore_errors=True)
        for log in self.logs.glob(f"{release}.log*"):
            log.unlink()

    def discard_leftovers(self, wanted: str) -> None:
        """Where none is live: end what interrupted runs have left of other releases."""
        for path in (self.home / "releases").iterdir():
            if path.name.lstrip(".") != wanted:
                self.discard(path.name.lstrip("."))
                shutil.rmtree(path, ignore_errors=True)

    def _remove_group(self, program: str) -> None:
        end = time.monotonic() + 10
        while True:
            try:
                self.supervisor.removeProcessGroup(program)
                return
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == BAD_NAME:
                    return
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def _state(self, program: str) -> str | None:
        try:
            return self.supervisor.getProcessInfo(program)["statename"]
        except xmlrpc.client.Fault:
            return None

    def _last_words(self, release: str, lines: int = 60) -> str:
        try:
            log = (self.logs / f"{release}.log").read_text(errors="replace")
        except FileNotFoundError:
            return "(it wrote nothing)"
        return "\n".join(BANNER.sub("", log).splitlines()[-lines:]).strip() or "(it wrote nothing)"

    # live

    def go_live(self, release: Release, by: str) -> None:
        """Persist the program of a warm release, then point ``current`` at it."""
        program = self.program(release.id)
        content = (self.path(release.id) / "supervisor.conf").read_bytes()
        write_file(self.conf_d / f"{program}.conf", content)
        (self.trial / f"{program}.conf").unlink(missing_ok=True)
        point_symlink(self.logs / "current.log", f"{release.id}.log")
        point_symlink(self.home / "current", f"releases/{release.id}")
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        write_json(self.journal, {"live": release.id, "since": since, "by": by, "source": release.record["source"]})

    def is_running(self, release: str) -> bool:
        """Whether a release's program is registered for good and runs."""
        program = self.program(release)
        return (self.conf_d / f"{program}.conf").exists() and self._state(program) in RUNNING

    def run_again(self, release: str) -> None:
        """Register the live release's program again where it is not, and start it."""
        registered = self.conf_d / f"{self.program(release)}.conf"
        write_file(registered, (self.path(release) / "supervisor.conf").read_bytes())
        self.start(release)
        end = time.monotonic() + SETTLES_WITHIN
        while self._state(self.program(release)) == "STARTING" and time.monotonic() < end:
            time.sleep(0.1)
        if self._state(self.program(release)) != "RUNNING":
            raise ReleaseFailed(
                f"{self.name} {release} does not start. Its log ends with:\n{self._last_words(release)}"
            )


def differences(live: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two ``inputs`` of release.json differ in, in words.

    >>> differences({"source": "1a", "entry": {"processes": 4}}, {"source": "2b", "entry": {"processes": 8}})
    ['processes 4 → 8', 'source changed']
    """
    before, after = _flat(live), _flat(wanted)
    words = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old != new:
            words.append(
                f"{name.removeprefix('entry.')} {old} → {new}" if name.startswith("entry.") else f"{name} changed"
            )
    return words


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf for key, inner in value.items() for name, leaf in _flat(inner, f"{prefix}.{key}".lstrip(".")).items()
    }


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder)


def _write_variables(folder: Path, variables: dict[str, str], gid: int) -> None:
    """Write an envdir, https://cr.yp.to/daemontools/envdir.html.

    The line's end is not part of the value, and a file with nothing else is the empty value.
    """
    for name, value in variables.items():
        write_file(folder / name, f"{value}\n".encode(), 0o640, 0, gid)
