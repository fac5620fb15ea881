#!/usr/bin/python
"""Release an app on a host, or say what differs from what it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: Bring the first release of an app to life on a host, and report what runs
description:
  - Packs the source of an app on the controller, renders what makes it run, and names the release by a hash of all
    its inputs.
  - A host that runs no release of the app gets this one. It is staged aside, run beside nothing, and becomes live
    only when every worker has answered its health path. A release that can't is removed, and the app's own error is
    the message.
  - Where a release is live it stays live; what the inventory asks for beyond it is reported in words. Its program is
    started if somebody has stopped it.
options:
  app:
    description: One entry of C(flask_apps) with its defaults (filter C(complete_apps)).
    type: dict
    required: true
  templates:
    description: Folders, relative to the project, whose C(*.j2) become the release's files.
    type: list
    elements: path
    required: true
  settings:
    description: What the templates need beside the app, C(uwsgi_version) among it; part of the release's inputs.
    type: dict
    required: true
author: flaskfleet
"""

EXAMPLES = r"""
- name: Release | Make the first release of each app live
  app_release:
    app: "{{ (flask_apps | complete_apps)[item] }}"
    templates: [roles/uwsgi/release, roles/flask_app/release]
    settings: {uwsgi_version: 2.0.31, listen: 1024, buffer_size: 65535}
  loop: "{{ flask_apps.keys() }}"
"""

RETURN = r"""
release:
  description: The id of the release that the inventory asks for.
  type: str
  returned: always
live:
  description: The id of the release that is live in the end; null where none is.
  type: str
  returned: always
undeployed:
  description: What the inventory asks for that is not live, like C(processes 4 → 8).
  type: list
  elements: str
  returned: always
"""

import os
import xmlrpc.client
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.environments import EnvironmentFailed, find_wheel, python_abi
from ansible.module_utils.flaskfleet.releases import App, Release, ReleaseFailed, differences
from ansible.module_utils.flaskfleet.services import supervisor

SUPERVISOR_SOCKET = "/run/supervisor.sock"
WHEELS = Path("/var/lib/flaskfleet/wheels")


def first_release(app: App, release: Release, wanted: dict[str, Any]) -> None:
    """Stage, warm and make live."""
    app.prepare(wanted["secret_env"])
    app.discard_leftovers(release.id)
    if not app.path(release.id).exists():
        wheel = find_wheel(WHEELS, release.python, python_abi(release.python), wanted["uwsgi_version"])
        app.stage(release, Path(wanted["archive"]), wheel)
    app.warm(release)
    app.go_live(release, wanted["by"])


def run(wanted: dict[str, Any], app: App, check_mode: bool) -> dict[str, Any]:
    """Bring the app to its first release, or keep the live one running; the module's result."""
    release = Release(
        id=wanted["release"],
        files=wanted["files"],
        env=wanted["env"],
        static=wanted["static"],
        requirements=wanted["requirements"],
        python=wanted["python"],
        processes=wanted["processes"] or os.cpu_count() or 1,
        health=wanted["health"],
        record=wanted["record"],
    )
    with nullcontext() if check_mode else app.lock():
        live = app.live()
        result = {"changed": True, "release": release.id, "live": live, "undeployed": []}
        if live:
            result["undeployed"] = differences(app.record(live).get("inputs", {}), release.record["inputs"])
            result["changed"] = not app.is_running(live)
            if result["changed"] and not check_mode:
                app.run_again(live)
        elif not check_mode:
            if not wanted["archive"] and not app.path(release.id).exists():
                return {**result, "changed": False, "needs_archive": True}
            first_release(app, release, wanted)
            result["live"] = release.id
    return result


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name has packed and rendered."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "release": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "files": {"type": "dict", "required": True},
            "env": {"type": "dict", "required": True},
            "secret_env": {"type": "dict", "required": True, "no_log": True},
            "static": {"type": "dict", "required": True},
            "requirements": {"type": "str", "required": True},
            "python": {"type": "path", "required": True},
            "uwsgi_version": {"type": "str", "required": True},
            "processes": {"type": "int", "required": True},
            "health": {"type": "dict", "required": True},
            "record": {"type": "dict", "required": True},
            "by": {"type": "str", "required": True},
            "web_group": {"type": "str", "default": "www-data"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # a hardened root's would lock the app out of its own release
    app = App(module.params["name"], module.params["web_group"], supervisor(SUPERVISOR_SOCKET))
    try:
        result = run(module.params, app, module.check_mode)
    except (ReleaseFailed, EnvironmentFailed) as error:
        module.fail_json(msg=str(error))
    except xmlrpc.client.Fault as fault:
        module.fail_json(msg=f"{app.name}: Supervisor refused ({fault.faultString}); see supervisorctl reread")
    except OSError as error:
        hint = "; is Supervisor running?" if error.filename == SUPERVISOR_SOCKET else ""
        module.fail_json(msg=f"{app.name}: {error}{hint}")
    if result["undeployed"]:
        module.warn(f"{app.name}: undeployed changes: {', '.join(result['undeployed'])}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
