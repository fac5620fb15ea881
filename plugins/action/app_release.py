"""The controller's half of app_release: fetch and upload packed releases. See the module."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import cache, release_inputs, wheelhouse
from plugin_utils.app_action import AppAction, naming_app, still_lacks_message
from plugin_utils.rendering import PROJECT

KEPT = 3  # packed releases in the cache


class ActionModule(AppAction):
    """Fetch a release from the host that has packed it, or upload it to one that lacks it."""

    MODULE = "app_release"

    def act(self) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        common = {"name": self.options["app"], "state": self.options["state"], "release": self.options["release"]}
        with naming_app(self.options["app"]):
            return self._pack(common) if self.options["state"] == "packed" else self._stage(common)

    def _pack(self, common: dict[str, Any]) -> dict[str, Any]:
        on_host = self._path_on_host("release.tar.gz")
        result = self.run_module({**common, "archive": on_host})
        if result.get("failed"):
            return result
        archive: Path = cache.CACHE / "shipped" / f"{common['name']}-{common['release']}.tar.gz"
        with cache.locked(archive.parent) as aside:
            self._connection.fetch_file(on_host, str(aside / archive.name))
            cache.settle(aside / archive.name, archive)
            cache.prune(archive.parent.glob("*.tar.gz"), KEPT, aside)
        return {**result, "archive": str(archive.relative_to(PROJECT))}

    def _stage(self, common: dict[str, Any]) -> dict[str, Any]:
        archive = PROJECT / self.options["archive"]
        record = release_inputs.shipped(archive, common["release"])
        sets = {f"set {number}": key for number, key in enumerate(record["sets"])}
        wheels = {name: {"key": key, "known": wheelhouse.built(key, self._wheelhouse())} for name, key in sets.items()}
        arguments = {**common, "archive": self.upload(archive), "python": record["python"], "wheels": wheels}
        result = self.run_module(arguments)
        if "needs" in result:  # no wheels are built for a release of another host
            needs = result["needs"]
            candidates = [wheel for one in wheels.values() for wheel in one["known"].get(needs["platform"], [])]
            arguments["wheels_archive"] = self._upload_wheels(needs["platform"], candidates, needs["wheels"])
            result = self.run_module(arguments)
        if "needs" in result:
            raise AnsibleActionFail(still_lacks_message(common["name"], result["needs"]))
        return result
