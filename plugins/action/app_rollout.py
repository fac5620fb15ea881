"""The controller's half of app_rollout: pack, render and upload what the phases need. See the module."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import packing, release_arguments
from plugin_utils.app_action import AppAction, naming_app, still_lacks_message
from plugin_utils.entries import Entry
from plugin_utils.run_identity import owner

PASSED_ON = ("phases", "force", "keep_releases", "keep_warm")
SMALL_BYTES = 500_000  # of archives that are sent with the first call, whether the host lacks them or not
Arguments = dict[str, Any]


class ActionModule(AppAction):
    """Call the module for all apps, and again for apps for which the host lacked something."""

    MODULE = "app_rollout"

    def act(self) -> Arguments:
        """Run the action; the result is the module's."""
        names: list[str] = self.options["apps"]
        if not names:
            return {"changed": False, "apps": {}}
        common = {name: self.options[name] for name in PASSED_ON} | {"holder": owner()}
        self.left_bytes = SMALL_BYTES
        apps = {name: self._arguments(self._entry(name)) for name in names}
        results: dict[str, Arguments] = {}
        wanted = names
        for last in (False, False, True):  # after building wheels, a second call finds which of them the host lacks
            result = self.run_module({**common, "apps": [apps[name] for name in wanted]})
            results |= result.get("apps", {})
            wanted = [name for name in names if "needs" in results.get(name, {})]
            if result.get("failed") or not wanted or self._task.check_mode:
                break
            if last:
                problems = (still_lacks_message(name, results[name]["needs"]) for name in wanted)
                raise AnsibleActionFail("; ".join(problems))
            for name in wanted:
                with naming_app(name):
                    apps[name] |= self.upload_needs(self._entry(name), results[name]["needs"], apps[name]["wheels"])
        for name, app_result in results.items():
            self.show_hook_output(app_result, name)
        return {**result, "changed": any(one.get("changed") for one in results.values()), "apps": results}

    def _entry(self, name: str) -> Entry:
        entry: Entry = self.options["entries"][name]
        return entry

    def _arguments(self, entry: Entry) -> Arguments:
        """The arguments of an app that the phases need."""
        name, options = entry["name"], self.options
        target = options["targets"].get(name, options["target"])
        arguments = {
            **release_arguments.common(entry),
            "target": target,
            "access_log": options["access_log"].replace("{app}", name) or None,
            "hooks_done": options["hooks_done"].get(name, {}),
            "singletons": options["singletons"].get(name),
            "canary": options["canary"] if name in options["watched"] else None,
        }
        if "warm_up" in options["phases"] and target == "inventory":
            with naming_app(name):
                arguments |= release_arguments.of_release(entry, options, self.task_vars, self._templar)
                arguments |= self._small_archive(entry)
        return arguments

    def _small_archive(self, entry: Entry) -> Arguments:
        """The packed source as an argument if it is small: this saves a call that asks for it, and an upload."""
        archive = packing.pack_source(entry)
        size = archive.stat().st_size
        if entry["build"] or size > self.left_bytes:
            return {}
        self.left_bytes -= size
        return {"archive_content": base64.b64encode(archive.read_bytes()).decode()}
