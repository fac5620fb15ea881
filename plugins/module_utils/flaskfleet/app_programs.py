"""An app's programs in Supervisor.

The file of a warm release's uWSGI program lies below /run, so that a reboot removes it. It moves to conf.d before
``current`` points at the release, so that a reboot at any moment starts the release that ``current`` points at.
Further programs, workers and schedulers, run for the live release only.
"""

from __future__ import annotations

import re
import time
import xmlrpc.client
from contextlib import suppress
from pathlib import Path

from . import release_log
from .files import write_file, write_json
from .journal import now
from .paths import NAME, AppPaths, ReleaseFailed
from .programs import Programs, lower_priority
from .rollout_lock import RolloutLock
from .sockets import unix_connections
from .users import find_user

SETTLES_WITHIN = 15  # seconds; a program is STARTING for startsecs (3)
# nginx gives up 5 seconds after harakiri (README of flask_app), so no client waits longer for an answer.
DRAINED_WITHIN = 10  # seconds beyond harakiri
STOPPED_WITHIN = 15  # seconds beyond harakiri, as in supervisor.conf
IDLE_POLLS = 3  # without a connection in a row, because a client may be connecting meanwhile


class AppPrograms:
    """The programs of one app."""

    def __init__(self, paths: AppPaths, supervisor: Programs, rollout_lock: RolloutLock) -> None:
        self.paths = paths
        self.supervisor = supervisor
        self.rollout_lock = rollout_lock

    def name(self, release: str) -> str:
        """The name of a release's uWSGI program."""
        return f"{self.paths.name}-{release}"

    def further(self, release: str) -> list[str]:
        """The names of a release's workers and schedulers that run on this host."""
        programs = self.paths.entry(release)["programs"]
        excluded = [] if self.paths.singletons_file.exists() else self.singletons(release)
        return [f"{self.name(release)}-{name}" for name in programs if name not in excluded]

    def singletons(self, release: str) -> list[str]:
        """The names of a release's singletons."""
        programs = self.paths.entry(release)["programs"]
        return [name for name, options in programs.items() if options.get("run_on") == "one"]

    def _programs_conf(self, release: str) -> bytes:
        """The sections of programs.conf whose programs run on this host."""
        first, *sections = (self.paths.path(release) / "programs.conf").read_text().split("[program:")
        programs = self.further(release)
        chosen = (section for section in sections if section.partition("]")[0] in programs)
        return "[program:".join([first, *chosen]).encode()

    def assign_singletons(self, assigned: bool) -> bool:
        """Record whether this host runs the app's singletons; whether that changed."""
        if assigned == self.paths.singletons_file.exists():
            return False
        if assigned:
            write_json(self.paths.singletons_file, {"since": now()})
        else:
            self.paths.singletons_file.unlink()
        return True

    def registered(self) -> set[str]:
        """The releases that have a program in Supervisor or a program file."""
        return {*self.configured(), *filter(None, map(self.release_of, self.supervisor.known()))}

    def configured(self) -> set[str]:
        """The releases with a program file; no other app's file matches the pattern."""
        pattern = re.compile(rf"{re.escape(self.paths.name)}-({NAME})(?:\.programs)?\.conf")
        folders = (self.paths.conf_d, self.paths.trial)
        names = [file.name for folder in folders for file in folder.glob(f"{self.paths.name}-*")]
        return {match[1] for match in map(pattern.fullmatch, names) if match}

    def release_of(self, program: str) -> str | None:
        """The release that a Supervisor program belongs to; None if it belongs to another app.

        ``shop-202401011200-eu`` is taken for another app's name unless ``shop`` is known to have such a release.
        """
        match = re.fullmatch(rf"{re.escape(self.paths.name)}-({NAME})(-.+)?", program)
        if match and match[2]:
            rollout = self.rollout_lock.record()
            history = (entry["release"] for entry in self.paths.journal().history)
            known = {*self.paths.on_disk(), *self.configured(), *history, rollout.get("target"), rollout.get("before")}
            return match[1] if match[1] in known else None
        return match[1] if match else None

    def owns(self, program: str) -> bool:
        """Whether a Supervisor program belongs to the app."""
        return program == f"{self.paths.name}-http" or self.release_of(program) is not None

    def is_running(self, release: str) -> bool:
        """Whether all programs of a live release run and their files in conf.d are as they were written."""
        programs = [self.name(release), *self.further(release)]
        return not self.edited(release) and all(map(self.supervisor.is_running, programs))

    def start(self, release: str, swap: bool = True) -> None:
        """Register a release's uWSGI program and start it; with ``swap`` also its further programs."""
        registered = self.paths.conf_d / f"{self.name(release)}.conf"
        self.register(registered, (self.paths.path(release) / "supervisor.conf").read_bytes())
        self.supervisor.start(self.name(release))
        if not self.supervisor.settle(self.name(release), SETTLES_WITHIN):
            log = release_log.excerpt(self.paths, release)
            raise ReleaseFailed(f"{self.paths.name} {release} does not start. Its log:\n{log}")
        if swap:
            self.swap_further()

    def swap_further(self) -> None:
        """Stop the workers and schedulers of other releases gracefully, then start those of the live release.

        :raises ReleaseFailed: one does not start; the others run.
        """
        live = self.paths.live()
        assert live
        old = self.known_further()
        wanted = set(self.further(live))
        registered = self.paths.conf_d / f"{self.name(live)}.programs.conf"
        if wanted:
            self.register(registered, self._programs_conf(live))
        else:
            registered.unlink(missing_ok=True)
        for release in self.configured() - {live}:
            (self.paths.conf_d / f"{self.name(release)}.programs.conf").unlink(missing_ok=True)
        ending = old.keys() - wanted
        self.supervisor.stop(
            ending, max(map(self.further_stop_seconds, {old[program] for program in ending}), default=0)
        )
        for program in wanted:
            self.supervisor.start(program)
        ended = sorted(program for program in wanted if not self.supervisor.settle(program, SETTLES_WITHIN))
        if ended:
            raise ReleaseFailed(
                f"{self.paths.name}: {', '.join(ended)} does not stay up; {live} is live, and Supervisor keeps trying. "
                f"See {self.paths.logs}/"
            )

    def known_further(self) -> dict[str, str]:
        """The release of each worker and scheduler of the app in Supervisor, by program."""
        found = {program: self.release_of(program) for program in self.supervisor.known()}
        return {program: release for program, release in found.items() if release and program != self.name(release)}

    def register(self, file: Path, content: bytes) -> None:
        """Write a program's file to conf.d. Supervisor reads it at once, because a bad file keeps it from restarting.

        :raises ReleaseFailed: Supervisor refuses the file; the file from before is restored.
        """
        before = file.read_bytes() if file.exists() else None
        write_file(file, content, 0o640)
        try:
            self.supervisor.reload()
        except xmlrpc.client.Fault as fault:
            if before in (None, content):
                file.unlink()
                outcome = "the file was removed"
            else:
                write_file(file, before, 0o640)
                outcome = "the file from before was restored"
            raise ReleaseFailed(
                f"{self.paths.name}: Supervisor refuses {file.name} ({fault.faultString}); {outcome}. "
                f"Correct flask_apps.{self.paths.name}, then deploy"
            ) from None

    def further_stop_seconds(self, release: str) -> float:
        """How long the slowest of a release's further programs may take to stop."""
        if not self.paths.path(release).exists():
            return 0
        return max((program["stop_seconds"] for program in self.paths.entry(release)["programs"].values()), default=0)

    def drain_and_stop(self, releases: set[str]) -> None:
        """Drain and stop releases, all at the same time."""
        patience = max(
            (
                self.paths.entry(release)["harakiri_seconds"]
                for release in releases
                if self.paths.path(release).exists()
            ),
            default=0,
        )
        sockets = [str(self.paths.path(release) / "run" / "uwsgi.sock") for release in releases]
        end = time.monotonic() + patience + DRAINED_WITHIN
        idle_polls = 0
        while sockets and idle_polls < IDLE_POLLS and time.monotonic() < end:
            idle_polls = 0 if any(map(unix_connections, sockets)) else idle_polls + 1
            time.sleep(0.02)
        programs = [self.name(release) for release in releases]
        processes = (process for program in programs for process in self.supervisor.processes(program))
        pids = [process["pid"] for process in processes if process["pid"]]
        if pids and (user := find_user(self.paths.name)):
            lower_priority(pids, user.pw_uid)
        self.supervisor.stop(programs, patience + STOPPED_WITHIN)
        for release in releases:
            for folder in (self.paths.trial, self.paths.conf_d):
                (folder / f"{self.name(release)}.conf").unlink(missing_ok=True)
        if releases:
            self.supervisor.rpc.reloadConfig()

    def edited(self, release: str) -> list[str]:
        """The program files of a release that were edited or removed, in words."""
        written = {}
        with suppress(FileNotFoundError):  # manifest.edited reports it
            written[".conf"] = (self.paths.path(release) / "supervisor.conf").read_bytes()
            if self.further(release):
                written[".programs.conf"] = self._programs_conf(release)
        files = {self.paths.conf_d / f"{self.name(release)}{suffix}": content for suffix, content in written.items()}
        return [
            f"{path} was edited or removed"
            for path, content in files.items()
            if not path.exists() or path.read_bytes() != content
        ]
