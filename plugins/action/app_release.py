"""The controller's half of app_release: pack the source, name the release, render its files. See the module."""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import packing
from plugin_utils.entries import Entry
from plugin_utils.rendering import PROJECT, render


class ActionModule(ActionBase):
    """Ask the host what it has; hand it the packed source only where it lacks the release."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        entry: Entry = json.loads(json.dumps(self._task.args["app"]))
        try:
            arguments = self._release(entry, task_vars)
        except (packing.SourceError, OSError) as error:
            raise AnsibleActionFail(f"flask_apps.{entry['name']}: {error}") from error
        result = self._execute_module("app_release", arguments, task_vars=task_vars)
        if result.get("needs_archive") and not self._task.check_mode:
            try:
                arguments["archive"] = self._send(Path(entry["source"]["path"]))
                result = self._execute_module("app_release", arguments, task_vars=task_vars)
            finally:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _send(self, source: Path) -> str:
        """Pack the source and copy it to the host; its path there."""
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        with tempfile.NamedTemporaryFile(suffix=".tar.gz") as archive:
            packing.pack(source, packing.source_files(source), Path(archive.name))
            return self._transfer_file(archive.name, self._connection._shell.join_path(folder, "source.tar.gz"))

    def _release(self, entry: Entry, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The module's arguments but for the archive."""
        source = Path(entry["source"]["path"])
        files = packing.source_files(source)
        required = packing.requirements(source, entry["requirements"])
        settings = json.loads(json.dumps(self._task.args["settings"]))
        templates = [
            path for folder in self._task.args["templates"] for path in sorted((PROJECT / folder).glob("*.j2"))
        ]
        inputs = packing.release_inputs(entry, packing.source_hash(source, files), required, templates, settings)
        release = packing.digest(inputs)[:12]

        variables = {
            **task_vars,
            "app": entry,
            "settings": settings,
            "release": {"id": release, "path": f"/srv/{entry['name']}/releases/{release}"},
        }
        environment = {
            **{name: str(value) for name, value in entry["env"].items()},
            "FLASKFLEET_APP": entry["name"],
            "FLASKFLEET_RELEASE": release,
            "FLASKFLEET_SHARED": f"/srv/{entry['name']}/shared",
        }
        return {
            "name": entry["name"],
            "release": release,
            "files": {template.stem: render(self._templar, template, variables) for template in templates},
            "env": environment,
            "secret_env": {name: str(value) for name, value in entry["secret_env"].items()},
            "static": entry["static"],
            "requirements": required,
            "python": entry["python"],
            "uwsgi_version": settings["uwsgi_version"],
            "processes": entry["processes"],
            "health": {**entry["health"], "host": entry["server_names"][0].removeprefix("*.")},
            "record": {"app": entry["name"], "release": release, "source": str(source), "inputs": inputs},
            "by": f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}",
        }
