"""The controller's half of config_tree: render the templates. See the module of the same name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils.rendering import render_tree

RENDERED_HERE = ("each", "exclude", "modes", "groups")


class ActionModule(ActionBase):
    """Render the role's templates and hand the files to the module."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        each, exclude, modes, groups = (arguments.pop(name, None) for name in RENDERED_HERE)
        if arguments.get("state", "present") == "present":
            role = Path(self._task._role._role_path) if self._task._role else Path(self._loader.get_basedir())
            folder = role / "templates"
            if not folder.is_dir():
                raise AnsibleActionFail(f"config_tree: there is no folder {folder}")
            files, arguments["tree"] = render_tree(
                self._templar, folder, task_vars, each or {}, exclude or [], modes or {}, groups or {}
            )
            arguments["rendered"] = json.dumps({"files": files})
        result: dict[str, Any] = self._execute_module("config_tree", arguments, task_vars=task_vars)
        return result
