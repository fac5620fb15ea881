"""The controller's half of app_lock: it adds the holder. See the module of the same name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils.run_identity import breaking_stale_lock, owner


class ActionModule(ActionBase):
    """Run the module with this run as the holder."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        arguments = {**self._task.args, "holder": owner()}
        return breaking_stale_lock(
            lambda **further: self._execute_module("app_lock", {**arguments, **further}, task_vars=task_vars)
        )
