"""An app on this host: its paths, its programs, and the lock of the rollout that changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .app_programs import AppPrograms
from .paths import AppPaths
from .programs import Programs
from .rollout_lock import RolloutLock


class App:
    """An app. ``supervisor`` is Supervisor's XML-RPC interface, ``root`` is not / in tests."""

    def __init__(self, name: str, supervisor: Any, root: Path = Path("/")) -> None:
        self.name = name
        self.paths = AppPaths(name, root)
        self.supervisor = Programs(supervisor)
        self.rollout_lock = RolloutLock(name, self.paths.lock_record_file, self.paths.step_file)
        self.programs = AppPrograms(self.paths, self.supervisor, self.rollout_lock)
