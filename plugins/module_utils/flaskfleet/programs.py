"""Supervisor's programs. Each is a group of its own, so that a change of one touches no other.

The interface is http://supervisord.org/api.html. ``supervisorctl update`` would stop every process of a changed group
(Supervisor issue 1713); here groups are added and removed by name.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
import xmlrpc.client
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from .users import setpriv

ALREADY_ADDED = 90  # supervisor.xmlrpc.Faults
BAD_NAME = 10
CANT_REREAD = 92
RUNNING = {"RUNNING", "STARTING"}
ENDED = {"STOPPED", "EXITED", "FATAL"}
POLL_SECONDS = 0.05
NICENESS = 19
SUPERVISOR_SECONDS = 10  # to wait for a step of supervisord itself


def lower_priority(groups: Iterable[int], uid: int) -> None:
    """Give process groups of a user the lowest priority; errors are ignored.

    Many Python processes that end at once take every CPU for a while. renice runs as the user, because root may not
    change priorities in a container without CAP_SYS_NICE (setpriority(2)).
    """
    argv = [*setpriv(uid), "renice", "-n", str(NICENESS), "-g", *map(str, groups)]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(argv, capture_output=True, check=False, timeout=SUPERVISOR_SECONDS)


class Programs:
    """The programs of one supervisord. ``rpc`` is its XML-RPC interface."""

    def __init__(self, rpc: Any) -> None:
        self.rpc = rpc

    def processes(self, program: str) -> list[dict[str, Any]]:
        """A program's processes as Supervisor lists them; none if it does not know the program."""
        return [process for process in self.rpc.getAllProcessInfo() if process["group"] == program]

    def known(self) -> set[str]:
        """The programs that Supervisor has, whatever their state."""
        return {process["group"] for process in self.rpc.getAllProcessInfo()}

    def is_running(self, program: str) -> bool:
        """Whether all processes of a program run or start."""
        processes = self.processes(program)
        return bool(processes) and all(process["statename"] in RUNNING for process in processes)

    def reload(self) -> None:
        """Reload Supervisor's configuration files; no process is touched.

        :raises xmlrpc.client.Fault: a file is invalid. With it Supervisor would not start again.
        """
        try:
            self.rpc.reloadConfig()
        except xmlrpc.client.ProtocolError as error:  # supervisord answers 500 for some invalid files
            raise xmlrpc.client.Fault(CANT_REREAD, f"CANT_REREAD: {error.errmsg}") from error

    def start(self, program: str) -> None:
        """Start a program whose file is in place; no other program is touched."""
        self.reload()
        try:
            self.rpc.addProcessGroup(program)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != ALREADY_ADDED:
                raise
        end = time.monotonic() + SUPERVISOR_SECONDS
        while not self.is_running(program) and time.monotonic() < end:
            with suppress(xmlrpc.client.Fault):
                self.rpc.startProcessGroup(program, False)
            time.sleep(POLL_SECONDS)

    def settle(self, program: str, within: float) -> bool:
        """Wait until a program has run for its ``startsecs``; False if it ends first or takes longer."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            states = {process["statename"] for process in self.processes(program)}
            if states == {"RUNNING"}:
                return True
            if states & (ENDED | {"BACKOFF"}):
                return False
            time.sleep(POLL_SECONDS)
        return False

    def stop(self, programs: Iterable[str], within: float) -> None:
        """Stop programs gracefully, all at the same time, and remove them from Supervisor.

        :param within: seconds; the longest ``stopwaitsecs`` of them, after which Supervisor kills the processes.
        """
        programs = list(programs)
        for program in programs:
            with suppress(xmlrpc.client.Fault):
                self.rpc.stopProcessGroup(program, False)
        end = time.monotonic() + within + SUPERVISOR_SECONDS
        while time.monotonic() < end and any(
            process["statename"] not in ENDED for program in programs for process in self.processes(program)
        ):
            time.sleep(POLL_SECONDS)
        for program in programs:
            self._remove(program)

    def kill(self, program: str) -> None:
        """Kill a program and remove it from Supervisor. A graceful stop would wait for an import that never ends."""
        processes = self.processes(program)
        if any(process["statename"] not in ENDED for process in processes):
            with suppress(xmlrpc.client.Fault):
                self.rpc.stopProcessGroup(program, False)
        for process in processes:
            if process["pid"]:
                with suppress(ProcessLookupError):
                    os.killpg(process["pid"], signal.SIGKILL)
        self._remove(program)

    def _remove(self, program: str) -> None:
        end = time.monotonic() + SUPERVISOR_SECONDS
        while True:
            try:
                self.rpc.removeProcessGroup(program)
                return
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == BAD_NAME:
                    return
                if time.monotonic() > end:
                    raise
                time.sleep(POLL_SECONDS)
