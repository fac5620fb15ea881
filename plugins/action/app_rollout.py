"""The controller's half of app_rollout: what each phase needs of each app. See the module."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import packing, release_arguments
from plugin_utils.app_action import AppAction, failures_of
from plugin_utils.entries import Entry
from plugin_utils.run_identity import owner

PASSED_ON = ("phases", "force", "keep_releases", "keep_warm")
SMALL = 500_000  # bytes of the archives that go along with the question whether they are needed
Arguments = dict[str, Any]


class ActionModule(AppAction):
    """One call of the module for all apps; a second one for those of which the host lacked something."""

    MODULE = "app_rollout"

    def act(self) -> Arguments:
        """Run the action; the result is the module's."""
        names: list[str] = self.options["apps"]
        if not names:
            return {"changed": False, "apps": {}}
        common = {name: self.options[name] for name in PASSED_ON} | {"holder": owner()}
        self.left = SMALL
        apps = {name: self._arguments(self._entry(name)) for name in names}
        results: dict[str, Arguments] = {}
        wanted = names
        for last in (False, False, True):  # once the wheels are built, it is known which ones the host lacks
            result = self.call({**common, "apps": [apps[name] for name in wanted]})
            results |= result.get("apps", {})
            wanted = [name for name in names if "needs" in results.get(name, {})]
            if result.get("failed") or not wanted or self._task.check_mode:
                break
            if last:
                lack = (f"flask_apps.{name}: the host still lacks {results[name]['needs']}" for name in wanted)
                raise AnsibleActionFail("; ".join(lack))
            for name in wanted:
                with failures_of(name):
                    apps[name] |= self.supply(self._entry(name), results[name]["needs"], apps[name]["wheels"])
        for name, one in results.items():
            self.say(one, name)
        return {**result, "changed": any(one.get("changed") for one in results.values()), "apps": results}

    def _entry(self, name: str) -> Entry:
        entry: Entry = self.options["entries"][name]
        return entry

    def _arguments(self, entry: Entry) -> Arguments:
        """What the phases need of an app."""
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
            with failures_of(name):
                arguments |= release_arguments.of_release(entry, options, self.task_vars, self._templar)
                arguments |= self._small_archive(entry)
        return arguments

    def _small_archive(self, entry: Entry) -> Arguments:
        """The packed source, if there is room for it: one call instead of three, to ask, to copy, to release."""
        archive = packing.pack_source(entry)
        size = archive.stat().st_size
        if entry["build"] or size > self.left:
            return {}
        self.left -= size
        return {"archive_content": base64.b64encode(archive.read_bytes()).decode()}
