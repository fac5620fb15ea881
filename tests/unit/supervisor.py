"""A Supervisor that starts nothing: http://supervisord.org/api.html, as far as releases use it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault

BAD_NAME, STILL_RUNNING, ALREADY_ADDED, CANT_REREAD = 10, 91, 90, 92
DOWN = ("STOPPED", 0)


class Supervisor:
    """Programs by name, each with a state and a pid.

    ``life`` is what a program goes through once it is started, one state for each time that somebody
    looks; the last one stays. ``on_start`` is called with its name.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = folders
        self.programs: dict[str, list[tuple[str, int]]] = {}
        self.life = [("RUNNING", 4711)]
        self.on_start: Callable[[str], object] = lambda program: None
        self.calls: list[str] = []

    def run(self, program: str, *life: tuple[str, int]) -> None:
        """Have a program that is there already."""
        self.programs[program] = list(life or self.life)

    def reloadConfig(self) -> list[Any]:
        self.calls.append("reloadConfig")
        for path in self._files():
            if "broken" in path.read_text():
                raise Fault(CANT_REREAD, f"CANT_REREAD: {path}")
        return [[[], [], []]]

    def addProcessGroup(self, name: str) -> bool:
        self.calls.append(f"addProcessGroup {name}")
        if name in self.programs:
            raise Fault(ALREADY_ADDED, f"ALREADY_ADDED: {name}")
        if f"{name}.conf" not in {path.name for path in self._files()}:
            raise Fault(BAD_NAME, f"BAD_NAME: {name}")
        self.programs[name] = [DOWN]
        return True

    def startProcess(self, name: str, wait: bool = True) -> bool:
        self.calls.append(f"startProcess {name}")
        self._of(name)
        self.on_start(name)
        self.programs[name] = list(self.life)
        return True

    def stopProcess(self, name: str, wait: bool = True) -> bool:
        self.calls.append(f"stopProcess {name}")
        self._of(name)
        self.programs[name] = [DOWN]
        return True

    def removeProcessGroup(self, name: str) -> bool:
        self.calls.append(f"removeProcessGroup {name}")
        if self._of(name)[0][0] == "RUNNING":
            raise Fault(STILL_RUNNING, f"STILL_RUNNING: {name}")
        del self.programs[name]
        return True

    def getProcessInfo(self, name: str) -> dict[str, Any]:
        states = self._of(name)
        state, pid = states.pop(0) if len(states) > 1 else states[0]
        return {"name": name, "statename": state, "pid": pid}

    def _of(self, name: str) -> list[tuple[str, int]]:
        if name not in self.programs:
            raise Fault(BAD_NAME, f"BAD_NAME: {name}")
        return self.programs[name]

    def _files(self) -> list[Path]:
        return [path for folder in self.folders for path in folder.glob("*.conf")]
