"""Check the inventories and the extra variables of the command, on the controller. See the module of the same name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import command_checks


class ActionModule(ActionBase):
    """Runs once, and touches no host."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check; fails with all problems at once."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        given = load_extra_vars(self._loader)
        extra = {str(name) for name in given} - {"_raw_params"}

        def is_read(name: str) -> bool:
            values = (variables["hostvars"].raw_get(host).items() for host in variables["groups"]["all"])
            return any(command_checks.reads(value, name) for own in values for key, value in own if key != name)

        problems = [
            *command_checks.check_inventories(variables["ansible_inventory_sources"], variables["groups"]),
            *command_checks.check_extra_text(given.get("_raw_params", "")),
            *command_checks.check_extra_variables(extra, is_read),
        ]
        if problems:
            lines = [f"- {problem}" for problem in problems]
            result.update(failed=True, msg="\n".join(["Nothing was changed. Please mend the command:", *lines]))
        return {**result, "changed": False}
