"""A fake Supervisor that starts nothing, with the methods of http://supervisord.org/api.html that releases use."""

from __future__ import annotations

from collections.abc import Callable
from configparser import Error, RawConfigParser
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

BAD_NAME, STILL_RUNNING, ALREADY_ADDED, CANT_REREAD = 10, 91, 90, 92
DOWN = ("STOPPED", 0)
STOPPED_STATES = {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}
STARTED_AT = 1_700_000_000

State = tuple[str, int]


class Supervisor:
    """Programs by name, each a group of processes with a state and a pid.

    ``life`` is what a program's processes go through once it is started, and ``end`` once it is stopped: one state for
    each time that somebody looks; the last one stays. ``on_start`` and ``on_stop`` are called with a program's name.
    As the real one, it knows of the files what it has read last, and runs a program as it was when it was added.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.programs: dict[str, list[list[State]]] = {}
        self.runs: dict[str, str] = {}
        self.life: list[State] = [("RUNNING", 4711)]
        self.end: list[State] = [DOWN]
        self.on_start: Callable[[str], object] = lambda program: None
        self.on_stop: Callable[[str], object] = lambda program: None
        self.calls: list[str] = []
        self._read: dict[str, tuple[str, int]] = {}

    def run(self, program: str, *life: State) -> None:
        """Add a program."""
        self.programs[program] = [list(life or self.life)]

    def states(self) -> dict[str, str]:
        """The state of each program's first process."""
        return {program: processes[0][0][0] for program, processes in self.programs.items()}

    def reloadConfig(self) -> list[Any]:
        self.calls.append("reloadConfig")
        self._read = {}
        for path in sorted(path for folder in self.folders for path in folder.glob("*.conf")):
            parser = RawConfigParser()
            try:
                parser.read_string(path.read_text())
            except Error as error:
                raise Fault(CANT_REREAD, f"CANT_REREAD: {path}") from error
            for section in parser.sections():
                program = section.removeprefix("program:")
                self._read[program] = path.read_text(), parser.getint(section, "numprocs", fallback=1)
        return [[[], [], []]]

    def addProcessGroup(self, name: str) -> bool:
        self.calls.append(f"addProcessGroup {name}")
        if name in self.programs:
            raise Fault(ALREADY_ADDED, f"ALREADY_ADDED: {name}")
        if name not in self._read:
            raise Fault(BAD_NAME, f"BAD_NAME: {name}")
        self.runs[name], number = self._read[name]
        self.programs[name] = [[DOWN] for _ in range(number)]
        return True

    def startProcessGroup(self, name: str, wait: bool = True) -> list[Any]:
        self.calls.append(f"startProcessGroup {name}")
        self._of(name)
        self.on_start(name)
        self.programs[name] = [list(self.life) for _ in self._of(name)]
        return []

    def stopProcessGroup(self, name: str, wait: bool = True) -> list[Any]:
        self.calls.append(f"stopProcessGroup {name}")
        self._of(name)
        self.on_stop(name)
        self.programs[name] = [list(self.end) for _ in self._of(name)]
        return []

    def removeProcessGroup(self, name: str) -> bool:
        self.calls.append(f"removeProcessGroup {name}")
        if any(states[0][0] not in STOPPED_STATES for states in self._of(name)):
            raise Fault(STILL_RUNNING, f"STILL_RUNNING: {name}")
        del self.programs[name]
        return True

    def getAllProcessInfo(self) -> list[dict[str, Any]]:
        found = []
        for program, processes in self.programs.items():
            for number, states in enumerate(processes):
                state, pid = states.pop(0) if len(states) > 1 else states[0]
                name = program if len(processes) == 1 else f"{program}-{number}"
                found.append(
                    {"name": name, "group": program, "statename": state, "pid": pid and pid + number,
                     "start": STARTED_AT if pid else 0}
                )  # fmt: skip
        return found

    def _of(self, name: str) -> list[list[State]]:
        if name not in self.programs:
            raise Fault(BAD_NAME, f"BAD_NAME: {name}")
        return self.programs[name]
