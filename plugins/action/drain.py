"""The controller's half of the module drain: it adds the user and the process of the run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils.run_identity import owner


class ActionModule(ActionBase):
    """Run the module with ``by`` and ``process`` of this run."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        result: dict[str, Any] = self._execute_module("drain", {**self._task.args, **owner()}, task_vars=task_vars)
        return result
