"""The controller's half of rollout: say whose it is. See the module of the same name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils.rollouts import owner, taking_over


class ActionModule(ActionBase):
    """Hand the module the token of this run."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        arguments = {**self._task.args, "rollout": owner()}
        return taking_over(
            lambda **further: self._execute_module("rollout", {**arguments, **further}, task_vars=task_vars)
        )
