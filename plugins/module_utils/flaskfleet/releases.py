"""The life of a release on a host: staged, warm, live, draining, kept, pruned.

A release's Supervisor program is below /run while it is tried out, so that a reboot forgets it, and moves to
conf.d before ``current`` points at it, so that a reboot at any moment starts what ``current`` points at.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from .canary import Mark, Traffic, traffic, watch
from .environments import Environment, build_environment
from .files import (
    give,
    group_id,
    point_symlink,
    read_ends,
    remove_trees,
    user_id,
    write_file,
    write_json,
)
from .journal import now, record_change, release_id
from .layout import NAME, Layout, ReleaseFailed, Secrets
from .programs import RUNNING, Programs, lower
from .rollout_lock import RolloutLock
from .services import uwsgi_request, uwsgi_workers
from .sockets import unix_connections
from .users import create_user, end_processes, find_user, remove_user, run_as

# What uWSGI says of itself, at each start, before it loads the app.
FIRST = r"\[uWSGI\] getting INI configuration"
BANNER = re.compile(rf"{FIRST}(?:(?!{FIRST}).)*?\*\*\* Operational MODE: [^\n]*\n", re.DOTALL)
SETTLES_WITHIN = 15  # seconds; a program is STARTING for startsecs (3)
# nginx gives up 5 seconds after harakiri (README of flask_app): nobody waits for an answer any longer.
DRAINED_WITHIN = 10  # seconds beyond harakiri
STOPPED_WITHIN = 15  # seconds beyond harakiri, as in supervisor.conf
LINE = 2_000  # characters of a line of a log that are shown
QUIET_LOOKS = 3  # at a socket, before nobody can be in the middle of a connect


class App(Layout):
    """An app on this host. ``supervisor`` is Supervisor's XML-RPC interface, ``root`` is / but in tests."""

    def __init__(self, name: str, supervisor: Any, root: Path = Path("/")) -> None:
        super().__init__(name, root)
        self.programs = Programs(supervisor)
        self.conf_d = root / "etc/supervisor/conf.d"
        record_file = root / "run/flaskfleet" / f"{name}.rollout.json"
        self.rollout_lock = RolloutLock(name, record_file, self.journal_file.with_suffix(".lock"))
        self.singletons_file = self.journal_file.with_suffix(".singletons")  # where this host, of all, has them
        self.audit_file = root / "var/log/flaskfleet.log"
        self.for_all = (root / "tmp", root / "var/tmp", root / "dev/shm")  # folders where any user may write

    def program(self, release: str) -> str:
        """The name of a release's uWSGI program."""
        return f"{self.name}-{release}"

    def further_programs(self, release: str) -> list[str]:
        """The names of a release's workers and schedulers, as far as they run on this host."""
        programs = self.entry(release)["programs"]
        elsewhere = [] if self.singletons_file.exists() else self._run_on_one(release)
        return [f"{self.program(release)}-{name}" for name in programs if name not in elsewhere]

    def _run_on_one(self, release: str) -> list[str]:
        programs = self.entry(release)["programs"]
        return [name for name, options in programs.items() if options.get("run_on") == "one"]

    def _programs_conf(self, release: str) -> bytes:
        """Those of the sections of programs.conf that are of this host."""
        first, *sections = (self.path(release) / "programs.conf").read_text().split("[program:")
        programs = self.further_programs(release)
        return "[program:".join([first, *(one for one in sections if one.partition("]")[0] in programs)]).encode()

    def have_singletons(self, here: bool) -> bool:
        """Let this host, of all, run the programs that run on one, or not; whether that is new."""
        if here == self.singletons_file.exists():
            return False
        if here:
            write_json(self.singletons_file, {"since": now()})
        else:
            self.singletons_file.unlink()
        return True

    def registered(self) -> set[str]:
        """The releases that have a program or are about to."""
        return {*self._filed(), *filter(None, map(self.release_of, self.programs.known()))}

    def _filed(self) -> set[str]:
        """The releases of which Supervisor has a file; no other app's file has such a name."""
        ours = re.compile(rf"{re.escape(self.name)}-({NAME})(?:\.programs)?\.conf")
        names = [file.name for folder in (self.conf_d, self.trial) for file in folder.glob(f"{self.name}-*")]
        return {match[1] for match in map(ours.fullmatch, names) if match}

    def release_of(self, program: str) -> str | None:
        """The release that a program of Supervisor's is of; None for another app's.

        ``shop-202401011200-eu`` is the name of an app, unless ``shop`` is known to have such a release.
        """
        match = re.fullmatch(rf"{re.escape(self.name)}-({NAME})(-.+)?", program)
        if match and match[2]:
            rollout = self.rollout_lock.record()
            history = (entry["release"] for entry in self.journal().history)
            known = {*self.on_disk(), *self._filed(), *history, rollout.get("target"), rollout.get("before")}
            return match[1] if match[1] in known else None
        return match[1] if match else None

    def owns(self, program: str) -> bool:
        """Whether a program of Supervisor's is the app's."""
        return program == f"{self.name}-http" or self.release_of(program) is not None

    def equip(self, release: str, secrets: Secrets) -> None:
        """Let a release that is staged start with a set of secrets, and with what it shares with others.

        Where it runs with other secrets and is not live, it ends.
        """
        self.keep_secrets(secrets)
        if not self.has_secrets(release, secrets):
            if release != self.live():
                self._stop({release} & self.registered())
            self.bind_secrets(release, secrets)
        self.seed_shared(release)

    # The user

    def create(self) -> bool:
        """Record the app, then create its user; whether either is new. What has no record is never removed.

        :raises ReleaseFailed: there is such a user, and it is not the app's.
        """
        journal, user = self.journal(), find_user(self.name)
        if user and not (journal.user and user.pw_dir == self.user_home):
            raise ReleaseFailed(
                f"{self.name}: there is a user {self.name} already, and {self.journal_file} does not say that it is "
                "the app's; give the app another name"
            )
        if not journal.user:
            journal.user = True
            journal.save()
        if not user:
            create_user(self.name, self.user_home)
        return not user

    # Warm

    def warm(self, release: str) -> None:
        """Run a release beside the live one until every worker has answered its health path.

        :raises ReleaseFailed: it can't; its program is gone, and the message holds its log's end.
        """
        program = self.program(release)
        try:
            if not (self.conf_d / f"{program}.conf").exists():
                content = (self.path(release) / "supervisor.conf").read_bytes()
                write_file(self.trial / f"{program}.conf", content, 0o640)
            before = self.log_size(release)
            self.programs.start(self.program(release))
            if problem := self._await_workers(release):
                words = self._last_words(release, before)
                raise ReleaseFailed(f"{self.name} {release} never became live: {problem}. Its log:\n{words}")
            self.meet(release)
            point_symlink(self.home / "next", f"releases/{release}")
        except xmlrpc.client.Fault as fault:
            self.discard(release)
            raise ReleaseFailed(
                f"{self.name} {release} never became live: Supervisor refused its program ({fault.faultString})"
            ) from fault
        except BaseException:  # a full disk, too, leaves nothing that runs
            self.discard(release)
            raise

    def _await_workers(self, release: str) -> str | None:
        """Wait until each worker has answered; what is wrong where that doesn't happen."""
        run, entry = self.path(release) / "run", self.entry(release)
        timeout, processes = entry["health"]["timeout_seconds"], entry["processes"] or os.cpu_count() or 1
        started = time.monotonic()
        pid = 0
        problem, refusal = "it does not listen", ""
        before: dict[int, int] = {}  # requests of each worker at the last problem: of two, one may always fail

        def answered() -> dict[int, int]:
            workers = uwsgi_workers(str(run / "stats.sock"), max(0.1, timeout - (time.monotonic() - started)))
            return {worker.id: worker.requests for worker in workers if worker.status != "cheap"}

        def ask(_: int) -> str | None:
            return self.probe(release, max(0.1, timeout - (time.monotonic() - started)))

        with ThreadPoolExecutor(max(2, processes)) as pool:
            while time.monotonic() - started < timeout:
                state = next(iter(self.programs.processes(self.program(release))), {"statename": "gone", "pid": -1})
                pid = pid or state["pid"]
                if state["statename"] not in RUNNING or state["pid"] != pid:
                    return "its program ended"
                if (run / "uwsgi.sock").exists():
                    with suppress(OSError):
                        before = answered() if refusal and problem == refusal else before
                    problem = next(filter(None, pool.map(ask, range(processes))), None) or ""
                    refusal = problem or refusal
                    with suppress(OSError):
                        idle = [worker for worker, count in answered().items() if count <= before.get(worker, 0)]
                        if not problem and not idle:
                            return None
                        problem = problem or f"workers {idle[:10]} have not answered"
                time.sleep(0.05)
        return f"{refusal or problem}, after {timeout} seconds"

    def probe(self, release: str, timeout: float) -> str | None:
        """Ask a release's health path over its socket, as nginx does; what is wrong, in words, or nothing.

        :param timeout: seconds for the whole answer.
        """
        health, host = self.entry(release)["health"], self.record(release)["host"]
        path, wanted = health["path"], health.get("status", 200)
        variables = {
            "REQUEST_METHOD": health.get("method", "GET"),
            "PATH_INFO": path.partition("?")[0],
            "QUERY_STRING": path.partition("?")[2],
            "REQUEST_URI": path,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": host,
            "SERVER_PORT": "80",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": host,
            "HTTP_USER_AGENT": "flaskfleet",
        }
        for name, value in health.get("headers", {}).items():
            variables[f"HTTP_{name.upper().replace('-', '_')}"] = value
        if variables.get("HTTP_X_FORWARDED_PROTO") == "https":  # as nginx tells it
            variables |= {"UWSGI_SCHEME": "https", "REQUEST_SCHEME": "https", "HTTPS": "on"}
        try:
            status, body = uwsgi_request(str(self.path(release) / "run" / "uwsgi.sock"), variables, timeout=timeout)
        except OSError as error:
            return f"{path} gave no answer ({error})"
        words = f"{path} answered {status}{f', not {wanted}' if wanted != 200 else ''}"
        return None if status == wanted else f"{words}: {body[:200].decode(errors='replace')}"

    def discard(self, release: str) -> None:
        """End a release that is not live, at once; it is forgotten unless it was live once."""
        program = self.program(release)
        self.programs.kill(program)
        for folder in (self.trial, self.conf_d):
            (folder / f"{program}.conf").unlink(missing_ok=True)
        self.programs.rpc.reloadConfig()
        if self.target("next") == release:
            (self.home / "next").unlink()
            self.part()
        if not self.journal().last(release):
            self.remove_release(release)
            self.prune_environments()
            self.prune_secrets()
        self._relink()

    def _relink(self) -> None:
        """Let the live release have its own files again below shared paths: see exec."""
        live = self.live()
        if live and self.entry(live).get("shared_paths"):
            run_as(user_id(self.name), group_id(self.name), [str(self.path(live) / "exec"), "true"])

    def clear(self, target: str | None, keep_warm: bool) -> None:
        """End what interrupted runs have left, but for what ``target`` can use."""
        journal, live = self.journal(), self.live()
        for release in {*self.registered(), *self.on_disk()} - {live}:
            if release == target and not self.path(release).exists():
                self.programs.kill(self.program(release))
            elif release != target and not journal.last(release):
                self.discard(release)
        remove_trees(*(self.home / "releases").glob(".*"))
        self._stop(self.registered() - {live, target, self.before() if keep_warm else None})

    def log_size(self, release: str) -> int:
        """The bytes that a release has logged."""
        log = self.logs / f"{release}.log"
        return log.stat().st_size if log.exists() else 0

    def _last_words(self, release: str, skip: int = 0, first: int = 20, last: int = 40) -> str:
        """The beginning and the end of a release's log, without what it had before and what uWSGI says of itself."""
        try:
            with (self.logs / f"{release}.log").open("rb") as file:
                head, tail = (part.decode(errors="replace") for part in read_ends(file, skip))
        except FileNotFoundError:
            return "(it wrote nothing)"
        lines, end = ([line[:LINE] for line in BANNER.sub("", part).strip().splitlines()] for part in (head, tail))
        if end or len(lines) > first + last:  # where workers crash by turns, the reason is not at the end
            left_out = "…" if end else f"… {len(lines) - first - last} lines …"
            lines = [*lines[:first], left_out, *(lines[first:] + end)[-last:]]
        return "\n".join(lines) or "(it wrote nothing)"

    # Hooks

    def run_hooks(self, release: str, commands: Iterable[str], timeout: float, once: bool) -> list[str]:
        """Run commands as the app, in a release's environment; what they said, a line each.

        :param once: leave out what is recorded as done for the release, and record the rest.
        :raises ReleaseFailed: one failed; with its output.
        """
        said = []
        journal = self.journal()
        done = journal.hooks.setdefault(release_id(release), {})
        for command in commands:
            if once and command in done:
                said.append(f"$ {command}: done at {done[command]}")
                continue
            status, output = self._run_hook(release, command, timeout)
            if status:
                raise ReleaseFailed(f"{self.name} {release}: {command}: {status}\n{output}")
            said += [f"$ {command}", *output.splitlines()]
            if once:
                done[command] = now()
                journal.save()
        return said

    def _run_hook(self, release: str, command: str, timeout: float) -> tuple[str, str]:
        try:
            argv = [str(self.path(release) / "exec"), *shlex.split(command)]
        except ValueError as error:
            return f"can't be read: {error}", ""
        # A file, not a pipe: what a hook leaves running may hold it open.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(  # exec becomes the app's user
                argv, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=self.home,
            )  # fmt: skip
            try:
                status = process.wait(timeout)
                problem = f"ended with {status}" if status else ""
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                problem = f"did not end within {timeout} seconds"
            head, tail = read_ends(output)
            return problem, b"\n\xe2\x80\xa6\n".join(filter(None, (head, tail))).decode(errors="replace")

    # Live

    def go_live(self, release: str, by: str, what: str) -> float:
        """Persist the program of a warm release, then point ``current`` at it.

        A ``rollback`` voids what was live: it becomes live again only by force.

        :returns: when that was, in epoch seconds.
        :raises ReleaseFailed: the release does not run any more.
        """
        program, old = self.program(release), self.live()
        if not self.programs.is_running(program):
            words = self._last_words(release)
            self.discard(release)
            raise ReleaseFailed(f"{self.name} {release} ended before the switch. Its log:\n{words}")
        journal = self.journal()
        entry = {"release": release, "since": now(), "by": by, "what": what, "source": self.record(release)["source"]}
        journal.history.append(entry)
        if what == "rollback" and old:
            journal.voided[release_id(old)] = {"since": entry["since"], "by": by}
        write_file(self.conf_d / f"{program}.conf", (self.path(release) / "supervisor.conf").read_bytes(), 0o640)
        (self.trial / f"{program}.conf").unlink(missing_ok=True)
        journal.save()
        if old and release_id(old) != release_id(release):
            point_symlink(self.home / "previous", f"releases/{old}")
        at = self._point(release)
        record_change(self.audit_file, {"app": self.name, "from": old, **entry})
        return at

    def _point(self, release: str) -> float:
        """Let ``current`` lead to a release: the switch itself. When that was, in epoch seconds."""
        point_symlink(self.logs / "current.log", f"{release}.log")
        point_symlink(self.home / "current", f"releases/{release}")
        at = time.time()
        (self.home / "next").unlink(missing_ok=True)
        return at

    def undo(self, keep_warm: bool) -> bool:
        """Take back what this rollout has done, the switch too; whether there was anything.

        The release that comes back still runs: it is stopped by :meth:`retire` only.
        """
        rollout, live = self.rollout_lock.record(), self.live()
        if self.rollout_lock.restore_interrupted():
            return False
        before = rollout.get("before")
        switched = bool(before) and live == rollout.get("target") and before != live
        if switched:
            if not self.is_running(before):
                self.run_again(before, swap=False)
            self._point(before)
            self.journal().save()  # it forgets what is not live
            if previous := self.before():
                point_symlink(self.home / "previous", f"releases/{previous}")
            record_change(
                self.audit_file,
                {"app": self.name, "from": live, "release": before, "since": now(), "by": rollout["by"],
                 "what": f"undone {rollout['what']}", "source": self.record(before).get("source")},
            )  # fmt: skip
            self.swap_programs()
            self._stop({live})
            self._relink()
        there = bool(switched or self.registered() - {self.live()})
        self.clear(None, keep_warm)
        self.prune_environments()
        self.rollout_lock.release()
        return there

    def seen(self) -> Traffic:
        """What clients got from the live release since this rollout's switch, as far as nginx has logged it."""
        mark, live = self.rollout_lock.record().get("log"), self.live()
        return traffic(Mark(**mark).since(), live) if mark and live else Traffic()

    def watch(self, canary: dict[str, float]) -> Traffic:
        """Watch the live release, which the first clients meet.

        :param canary: ``seconds``, ``requests`` and ``failed_percent``, see :func:`canary.watch`.
        :raises ReleaseFailed: it is not good enough; with the end of its log.
        """
        live = self.live()
        assert live
        timeout = self.entry(live)["harakiri_seconds"]
        judged, refusal = watch(self.seen, lambda: self.probe(live, timeout), **canary)
        if refusal:
            words = self._last_words(live, self.rollout_lock.record().get("said", 0))
            raise ReleaseFailed(f"{self.name} {live} is live on this host alone, and {refusal}. Its log:\n{words}")
        return judged

    def is_running(self, release: str) -> bool:
        """Whether all programs of a live release are registered for good, as they were written, and run."""
        programs = [self.program(release), *self.further_programs(release)]
        return not self._edited_programs(release) and all(map(self.programs.is_running, programs))

    def is_settled(self, keep_warm: bool) -> bool:
        """Whether the live release runs, and nothing that an interrupted run has left."""
        live = self.live()
        stay = {live, self.before() if keep_warm else None}
        return live is not None and self.is_running(live) and not self.registered() - stay

    def run_again(self, release: str, swap: bool = True) -> None:
        """Register a release's programs again where they are not, and start them; ``swap``: the further ones, too."""
        registered = self.conf_d / f"{self.program(release)}.conf"
        self._register(registered, (self.path(release) / "supervisor.conf").read_bytes())
        self.programs.start(self.program(release))
        if not self.programs.settle(self.program(release), SETTLES_WITHIN):
            raise ReleaseFailed(f"{self.name} {release} does not start. Its log:\n{self._last_words(release)}")
        if swap:
            self.swap_programs()

    def swap_programs(self) -> None:
        """Let the workers and schedulers be those of the live release: the old ones end first, gracefully.

        :raises ReleaseFailed: a new one does not start; the others run.
        """
        live = self.live()
        assert live
        old = self._further_known()
        wanted = set(self.further_programs(live))
        registered = self.conf_d / f"{self.program(live)}.programs.conf"
        if wanted:
            self._register(registered, self._programs_conf(live))
        else:
            registered.unlink(missing_ok=True)
        for release in self._filed() - {live}:
            (self.conf_d / f"{self.program(release)}.programs.conf").unlink(missing_ok=True)
        ending = old.keys() - wanted
        self.programs.stop(
            ending, max(map(self._programs_stop_within, {old[program] for program in ending}), default=0)
        )
        for program in wanted:
            self.programs.start(program)
        ended = sorted(program for program in wanted if not self.programs.settle(program, SETTLES_WITHIN))
        if ended:
            raise ReleaseFailed(
                f"{self.name}: {', '.join(ended)} does not stay up; {live} is live, and Supervisor keeps trying. "
                f"See {self.logs}/"
            )

    def _further_known(self) -> dict[str, str]:
        """The workers and schedulers of any release that Supervisor has, with their releases."""
        found = {program: self.release_of(program) for program in self.programs.known()}
        return {program: release for program, release in found.items() if release and program != self.program(release)}

    def _register(self, file: Path, content: bytes) -> None:
        """Write a program's file for good, if Supervisor can read it: else it would not start again, for no app.

        :raises ReleaseFailed: it refuses; what was there before is there again.
        """
        before = file.read_bytes() if file.exists() else None
        write_file(file, content, 0o640)
        try:
            self.programs.reload()
        except xmlrpc.client.Fault as fault:
            if before in (None, content):
                file.unlink()
            else:
                write_file(file, before, 0o640)
            raise ReleaseFailed(
                f"{self.name}: Supervisor refuses {file.name} ({fault.faultString}); it was taken back"
            ) from None

    def _programs_stop_within(self, release: str) -> float:
        if not self.path(release).exists():
            return 0
        return max((program["stop_seconds"] for program in self.entry(release)["programs"].values()), default=0)

    # Draining, kept, pruned

    def retire(self, keep: int, keep_warm: bool) -> None:
        """Let the live release's programs run, stop what is not live once its last request is done, and prune.

        :param keep: releases that stay on disk. ``keep_warm``: the one before stays up for a rollback.
        """
        live = self.live()
        assert live
        registered = self.conf_d / f"{self.program(live)}.conf"
        serves = _same(registered, self.path(live) / "supervisor.conf") and self.programs.is_running(self.program(live))
        try:
            self.swap_programs() if serves else self.run_again(live)
        finally:
            try:
                self.clear(None, keep_warm)
                self.prune(keep, self.registered())
            finally:
                self.rollout_lock.release()

    def _stop(self, releases: set[str]) -> None:
        """Drain and stop releases, all at the same time."""
        patience = max(
            (self.entry(release)["harakiri_seconds"] for release in releases if self.path(release).exists()), default=0
        )
        sockets = [str(self.path(release) / "run" / "uwsgi.sock") for release in releases]
        end = time.monotonic() + patience + DRAINED_WITHIN
        quiet = 0
        while sockets and quiet < QUIET_LOOKS and time.monotonic() < end:
            quiet = 0 if any(map(unix_connections, sockets)) else quiet + 1
            time.sleep(0.02)
        programs = [self.program(release) for release in releases]
        pids = [one["pid"] for program in programs for one in self.programs.processes(program) if one["pid"]]
        if pids and (user := find_user(self.name)):
            lower(pids, user.pw_uid)
        self.programs.stop(programs, patience + STOPPED_WITHIN)
        for release in releases:
            for folder in (self.trial, self.conf_d):
                (folder / f"{self.program(release)}.conf").unlink(missing_ok=True)
        if releases:
            self.programs.rpc.reloadConfig()

    # The router, where nginx is not

    def route(self, conf: str | None, environment: Environment | None) -> bool:
        """Have a program that listens for http and asks ``current``, or none; whether that changed anything.

        It never changes on a deploy.
        """
        program, file = f"{self.name}-http", self.conf_d / f"{self.name}-http.conf"
        if conf is None or environment is None:
            if not file.exists():
                return False
            self.programs.stop([program], STOPPED_WITHIN)
            (self.home / "router").unlink(missing_ok=True)
            file.unlink()
            return True
        target = f"venvs/{build_environment(self.venvs, environment, self.pool)}"
        written = file.read_text() if file.exists() else None
        if written == conf and self.target("router") == Path(target).name and self.programs.is_running(program):
            return False
        self.programs.stop([program], STOPPED_WITHIN)
        point_symlink(self.home / "router", target)
        self._register(file, conf.encode())
        self.programs.start(program)
        if not self.programs.settle(program, SETTLES_WITHIN):
            raise ReleaseFailed(f"{program} does not start; see {self.logs}/http.log")
        return True

    # Gone

    def is_there(self, purge: bool) -> bool:
        """Whether there is something to remove, by the record of the app.

        :raises ReleaseFailed: there is no record, and something of that name, which is somebody else's.
        """
        if self.journal_file.exists():
            return purge or self.journal().user
        foreign = [str(path) for path in (self.home, self.logs) if os.path.lexists(path)]
        foreign += [f"the user {self.name}"] if find_user(self.name) else []
        if foreign:
            raise ReleaseFailed(
                f"{self.name}: this host has no record of such an app ({self.journal_file}), so "
                f"{', '.join(foreign)} may be somebody else's. Nothing was changed"
            )
        return False

    def remove(self, purge: bool, by: str = "") -> bool:
        """Take an app off the host, its user too if it was created for the app; whether there was something to remove.

        ``shared``, logs and the journal stay unless ``purge``.

        :raises ReleaseFailed: see :meth:`is_there`.
        """
        if not self.is_there(purge):
            return False
        releases = self.registered()
        self.route(None, None)
        further = self._further_known()
        within = max(map(self._programs_stop_within, self.on_disk()), default=0)
        for release in self._filed():
            (self.conf_d / f"{self.program(release)}.programs.conf").unlink(missing_ok=True)
        self.programs.stop(further, within)
        self._stop(releases)
        journal = self.journal()
        user = find_user(self.name)
        user = user if user and journal.user and user.pw_dir == self.user_home else None
        if user:
            end_processes(user.pw_uid)
            # What the next user of that number would own otherwise.
            argv = ["find", *map(str, self.for_all), "-xdev", "-uid", str(user.pw_uid), "-delete"]
            run_as(user.pw_uid, user.pw_gid, argv)
        for path in (self.home / "shared", self.home / "media", self.logs):
            if path.exists():
                give(path, 0, 0)  # or the app that gets the user's number next, has it
        for name in ("current", "next", "previous"):
            (self.home / name).unlink(missing_ok=True)
        remove_trees(self.home / ".releases")
        with suppress(FileNotFoundError):
            (self.home / "releases").rename(self.home / ".releases")  # a half-removed release is none
        remove_trees(*(self.home / folder for folder in (".releases", "venvs", "secrets")))
        self.singletons_file.unlink(missing_ok=True)
        self.rollout_lock.release()
        if purge:
            remove_trees(self.home, self.logs)
        if user:
            remove_user(self.name)
        if purge:
            for path in (self.journal_file, self.rollout_lock.step_file):
                path.unlink(missing_ok=True)
            return True
        journal.user = False
        journal.history.append({"release": None, "since": now(), "by": by, "what": "removed", "source": None})
        journal.save()
        return True

    # Looking

    def report(self) -> dict[str, Any]:
        """What runs since when, from what, by whom; what is on disk; what was edited since it was written."""
        journal, live = self.journal(), self.live()
        previous = self.before()
        return {
            "app": self.name,
            "live": live,
            **{key: journal.last(live or "").get(key) for key in ("since", "by", "what", "source")},
            "programs": [
                {"name": process["name"], "program": process["group"], "state": process["statename"],
                 "pid": process["pid"], "since": process["start"]}
                for process in self.programs.rpc.getAllProcessInfo()
                if self.owns(process["group"])
            ],
            "on_disk": [
                {
                    "release": name,
                    "is": "live" if name == live else "previous" if name == previous else "kept",
                    "since": journal.last(name).get("since"),
                    "voided": journal.voided.get(release_id(name)),
                }
                for name in sorted(self.on_disk(), key=_place(journal.newest_first()))
            ],
            "lock": self.rollout_lock.record(),
            "singletons": self.singletons_file.exists() if live and self._run_on_one(live) else None,
            "edited": self.edited(live) + self._edited_programs(live) if live else self._dangling(),
        }  # fmt: skip

    def _dangling(self) -> list[str]:
        gone = self.target("current")
        return [f"{self.path(gone)} was removed: {self.home}/current points at it; run site.yml"] if gone else []

    def _edited_programs(self, release: str) -> list[str]:
        written = {}
        with suppress(FileNotFoundError):  # edited() tells of it
            written[".conf"] = (self.path(release) / "supervisor.conf").read_bytes()
            if self.further_programs(release):
                written[".programs.conf"] = self._programs_conf(release)
        files = {self.conf_d / f"{self.program(release)}{suffix}": content for suffix, content in written.items()}
        return [
            f"{path} was edited or removed"
            for path, content in files.items()
            if not path.exists() or path.read_bytes() != content
        ]


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


def _place(order: list[str]) -> Any:
    return lambda name: order.index(name) if name in order else len(order)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and one.read_bytes() == other.read_bytes()
