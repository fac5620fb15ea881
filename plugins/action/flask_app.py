"""The controller's half of flask_app: pack the source, name the release, render its files. See the module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import release_arguments
from plugin_utils.app_action import AppAction, naming_app, still_lacks_message
from plugin_utils.entries import Entry
from plugin_utils.run_identity import owner

PASSED_ON = ("state", "target", "force", "alone", "singletons", "hooks_done", "purge")


class ActionModule(AppAction):
    """Call the module, and again with uploads if the host lacks something."""

    MODULE = "flask_app"

    def act(self) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        entry = self.options["app"]
        with naming_app(entry["name"]):
            result = self._run_with_uploads(entry)
        self.show_hook_output(result, entry["name"])
        return {**result, "app": entry["name"]}

    def _run_with_uploads(self, entry: Entry) -> dict[str, Any]:
        arguments = {name: self.options[name] for name in PASSED_ON} | {"name": entry["name"], "holder": owner()}
        if self.options["state"] == "present":
            arguments |= release_arguments.common(entry)
            arguments |= release_arguments.of_release(entry, self.options, self.task_vars, self._templar)
        result = self.run_module(arguments)
        for _ in range(2):  # after building wheels, a second call finds which of them the host lacks
            if "needs" in result and not self._task.check_mode:
                arguments |= self.upload_needs(entry, result["needs"], arguments["wheels"])
                result = self.run_module(arguments)
        if "needs" in result and not self._task.check_mode:
            raise AnsibleActionFail(still_lacks_message(entry["name"], result["needs"]))
        return result
