"""The controller's half of app_wheels: the wheelhouse. See the module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import wheel_sets
from plugin_utils.app_action import AppAction, failures_of
from plugin_utils.entries import Entry


class ActionModule(AppAction):
    """Build what the wheelhouse lacks, and tell what a bundle has."""

    MODULE = "app_wheels"

    def act(self) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        entry = self.options["app"]
        with failures_of(entry["name"]):
            return {**self._build(entry), "app": entry["name"]}

    def _build(self, entry: Entry) -> dict[str, Any]:
        wheels = self.options["wheels"]
        arguments = {"python": entry["python"], "wheels": wheel_sets.known(entry, wheels)}
        result = self.call(arguments)
        if self._task.check_mode:
            return result
        if "needs" in result:
            arguments |= self.supply(entry, result["needs"], arguments["wheels"])
            result = self.call({"python": entry["python"], "wheels": arguments["wheels"]})
        if "needs" in result:
            raise AnsibleActionFail(f"flask_apps.{entry['name']}: the host still lacks {result['needs']}")
        if "platform" in result:
            made = self.built(entry, result["platform"])
            result["bundle"] = [str(path) for path in wheel_sets.bundle(entry, wheels, result["platform"], made)]
        return result
