"""The controller's half of app_wheels: fill the wheelhouse. See the module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import wheel_sets
from plugin_utils.app_action import AppAction, naming_app, still_lacks_message
from plugin_utils.entries import Entry


class ActionModule(AppAction):
    """Build the wheels that the wheelhouse lacks, and list the files of a bundle."""

    MODULE = "app_wheels"

    def act(self) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        entry = self.options["app"]
        with naming_app(entry["name"]):
            return {**self._build(entry), "app": entry["name"]}

    def _build(self, entry: Entry) -> dict[str, Any]:
        wheels = self.options["wheels"]
        arguments = {"python": entry["python"], "wheels": wheel_sets.known(entry, wheels)}
        result = self.run_module(arguments)
        if self._task.check_mode:
            return result
        if "needs" in result:
            arguments |= self.upload_needs(entry, result["needs"], arguments["wheels"])
            result = self.run_module({"python": entry["python"], "wheels": arguments["wheels"]})
        if "needs" in result:
            raise AnsibleActionFail(still_lacks_message(entry["name"], result["needs"]))
        if "platform" in result:
            made = self.built_source(entry, result["platform"])
            result["bundle"] = [str(path) for path in wheel_sets.bundle(entry, wheels, result["platform"], made)]
        return result
