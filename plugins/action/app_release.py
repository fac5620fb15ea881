"""The controller's half of app_release: pack the source, name the release, render its files. See the module."""

from __future__ import annotations

import base64
import getpass
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plugin_utils import packing, sources
from plugin_utils.entries import Entry
from plugin_utils.rendering import PROJECT, render

NOBODY = "nobody"
SMALL = 500_000  # bytes of an archive that goes along with the question whether it is needed


class ActionModule(ActionBase):
    """Ask the host what it has; hand it the packed source only where it lacks the release."""

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the action; the result is the module's."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        entry: Entry = json.loads(json.dumps(self._task.args["app"]))
        try:
            arguments = self._arguments(entry, task_vars)
            archive = self._pack(entry, arguments) if arguments["step"] == "warm" and "record" in arguments else None
            if archive and archive.stat().st_size <= SMALL:
                # One call where it would be three: to ask, to copy, to release.
                arguments["archive_content"] = base64.b64encode(archive.read_bytes()).decode()
            result = self._execute(arguments, task_vars)
            if result.get("needs_archive") and not self._task.check_mode:
                try:
                    arguments["archive"] = self._send(archive or self._pack(entry, arguments))
                    result = self._execute(arguments, task_vars)
                finally:
                    self._remove_tmp_path(self._connection._shell.tmpdir)
        except (sources.SourceError, OSError) as error:
            raise AnsibleActionFail(f"flask_apps.{entry['name']}: {error}") from error
        for line in result.get("said", []):
            Display().display(f"{entry['name']} on {task_vars['inventory_hostname']}: {line}")
        hooks = entry.get("hooks", {}) if result.get("switching") == "deploy" else {}
        hooked = [name for name in ("before_switch", "after_switch") if hooks.get(name)]
        return {"switching": "", **result, "app": entry["name"], "hooked": hooked}

    def _execute(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Run the module; take over from a rollout of this controller whose process is gone."""
        result = self._execute_module("app_release", arguments, task_vars=task_vars)
        holder = result.get("holder", {}).get("process", NOBODY)
        if result.get("failed") and has_ended(holder):
            result = self._execute_module("app_release", {**arguments, "take_over": holder}, task_vars=task_vars)
        return result

    def _pack(self, entry: Entry, arguments: dict[str, Any]) -> Path:
        """Pack the source, unless it was already."""
        fetched = sources.fetched(entry["source"])
        files = packing.source_files(fetched.folder)
        inputs = arguments["record"]["inputs"]
        key = packing.digest([inputs["source"], entry["static"]])
        return packing.packed(fetched.folder, files, entry["static"], key)

    def _send(self, archive: Path) -> str:
        """Copy an archive to the host; its path there."""
        folder = self._connection._shell.tmpdir or self._make_tmp_path()
        return self._transfer_file(str(archive), self._connection._shell.join_path(folder, "source.tar.gz"))

    def _arguments(self, entry: Entry, task_vars: dict[str, Any]) -> dict[str, Any]:
        """The module's arguments but for the archive."""
        args = json.loads(json.dumps(self._task.args))
        step, target = args.get("step", "present"), args.get("target", "inventory")
        common = {
            "name": entry["name"],
            "step": step,
            "target": target,
            "rollout": {
                "process": f"{socket.gethostname()} {os.getppid()}",
                "by": f"{os.environ.get('SUDO_USER') or getpass.getuser()}@{socket.gethostname()}",
            },
            **{key: args[key] for key in ("force", "purge", "keep_releases", "keep_warm") if key in args},
        }
        if step == "absent":
            return common
        common |= {
            "hooks": entry["hooks"],
            "secret_env": {name: str(value) for name, value in entry["secret_env"].items()},
        }
        if step not in ("present", "warm") or target != "inventory":
            return common
        return {**common, **self._release(entry, args, task_vars)}

    def _release(self, entry: Entry, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """What the inventory asks for: the release and the router before it."""
        fetched = sources.fetched(entry["source"])
        files = packing.source_files(fetched.folder)
        required = packing.required(fetched, entry)
        templates = [path for folder in args["templates"] for path in sorted((PROJECT / folder).glob("*.j2"))]
        source = packing.source_hash(fetched.folder, files)
        inputs = packing.release_inputs(entry, source, required, templates, args["settings"])
        release = packing.digest(inputs)[:12]

        variables = {
            **task_vars,
            "app": entry,
            "settings": args["settings"],
            "release": {"id": release, "path": f"/srv/{entry['name']}/releases/{release}"},
        }
        environment = {
            **{name: str(value) for name, value in entry["env"].items()},
            "FLASKFLEET_APP": entry["name"],
            "FLASKFLEET_RELEASE": release,
            "FLASKFLEET_SHARED": f"/srv/{entry['name']}/shared",
        }
        router = render(self._templar, PROJECT / args["router_template"], variables) if entry["http"] else None
        return {
            "release": release,
            "files": {template.stem: render(self._templar, template, variables) for template in templates},
            "router": router,
            "env": environment,
            "static": entry["static"],
            "requirements": required,
            "python": entry["python"],
            "uwsgi_version": args["settings"]["uwsgi_version"],
            "record": {
                "app": entry["name"],
                "release": release,
                "source": fetched.record,
                "host": next(iter(entry["server_names"]), "localhost").removeprefix("*."),
                "inputs": inputs,
            },
        }


def has_ended(process: str) -> bool:
    """Whether a controller's process, like ``name 4711``, was one of this machine and is gone."""
    host, _, pid = process.rpartition(" ")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
