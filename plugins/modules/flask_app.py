#!/usr/bin/python
"""Keep an app running on a host, or remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flask_app
short_description: Keep an app running on a host, or remove it
description:
  - Packs the source of an app on the controller, renders the release's files, and names the release by a hash over its
    inputs.
  - Never switches a live release to another one; see M(app_rollout) for that.
options:
  app:
    description: One entry of C(flask_apps) with its defaults (filter C(complete_apps)). For V(absent), its C(name).
    type: dict
    required: true
  state:
    description:
      - V(present) records the app and creates its user, keeps the live release running, starts the first release if
        none is live, and returns the undeployed changes. If other hosts may have a release (O(alone=false)), it starts
        none and returns C(joining).
      - V(absent) removes the app's programs, releases and user; its C(shared) folder and logs stay unless O(purge). It
        fails if the host has a user or folder of that name and no record of such an app.
    type: str
    choices: [present, absent]
    default: present
  target:
    description: The first release; V(inventory) is the one that the inventory asks for.
    type: str
    default: inventory
  force:
    description: Break the lock of another run.
    type: bool
    default: false
  alone:
    description: Whether no other host can have a release of the app.
    type: bool
    default: true
  singletons:
    description: Whether this host runs the app's singletons after a first release. By default nothing changes.
    type: bool
  hooks_done:
    description: The commands of C(before_switch) that other hosts have run, by release and command.
    type: dict
    default: {}
  purge:
    description: With V(absent), remove C(shared), logs and the journal, too.
    type: bool
    default: false
  templates:
    description: Folders, relative to the project, whose C(*.j2) become the release's files.
    type: list
    elements: path
    default: []
  router_template:
    description: The template of the Supervisor program that listens if the app has C(http), relative to the project.
    type: path
  settings:
    description: Further variables of the templates, C(uwsgi_version) among them. They are inputs of the release.
    type: dict
    default: {}
  wheels:
    description:
      - How the wheels of the app's environment are built. C(uwsgi) is the wheel set of uWSGI, C(build) are options of
        all sets, C(builder) is the host that builds (by default the first one that lacks a set), C(house) is the path
        of the wheelhouse.
      - See C(Wanted) in plugin_utils/wheelhouse.py.
    type: dict
    default: {}
author: flaskfleet
"""

EXAMPLES = r"""
- name: Start the app
  flask_app:
    app: "{{ (flask_apps | complete_apps).blog }}"
    templates: [roles/uwsgi/release, roles/flask_app/release]
    settings: {uwsgi_version: 2.0.31, listen: 1024, buffer_size: 65535}
    wheels: "{{ flask_app_wheels }}"

- name: Remove the app
  flask_app:
    app: {name: blog}
    state: absent
"""

RETURN = r"""
release:
  description: The release that the inventory asks for; null with V(absent).
  type: str
  returned: always
live:
  description: The live release; null if there is none.
  type: str
  returned: always
joining:
  description: Whether the host has no release, and other hosts may have one.
  type: bool
  returned: O(state=present) with O(alone=false)
apps:
  description: By the app's name its C(hooks), the C(before_switch) commands that are done; see M(app_lock).
  type: dict
  returned: after a first release
undeployed:
  description: Undeployed changes, like C(processes 4 → 8).
  type: list
  elements: str
  returned: O(state=present)
said:
  description: The output of hooks, line by line.
  type: list
  elements: str
  returned: always
needs:
  description: The uploads that the module lacks. The action plugin uploads them and runs the module again.
  type: dict
  returned: if something is missing
holder:
  description: The record of the lock's holder.
  type: dict
  returned: on failure, if another run holds the lock
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet import (
    http_router,
    phases,
    presence,
    secret_files,
    staging,
    switching,
    uploads,
    warm_up,
)
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.app_state import undeployed
from ansible.module_utils.flaskfleet.environments import Environment
from ansible.module_utils.flaskfleet.host_module import ARGUMENTS, FAILURES, app_on_host, explain
from ansible.module_utils.flaskfleet.journal import release_id
from ansible.module_utils.flaskfleet.toolchain import clean_up
from ansible.module_utils.flaskfleet.uploads import Result, Wanted


def state_present(app: App, wanted: Wanted, check_mode: bool) -> Result:
    """Keep the live release running, or start the first one."""
    if check_mode:
        return _keep_running(app, wanted, None, check_mode) if app.paths.live() else _first_result(wanted)
    with app.rollout_lock.one_step():
        clean_up()
        created = presence.create(app)
        router = uploads.environment(wanted, "uwsgi") if wanted["router"] else None
        if app.paths.live():
            result = _keep_running(app, wanted, router, check_mode)
            return {**result, "changed": result["changed"] or created}
        if not wanted["alone"]:
            return {**_first_result(wanted), "changed": created, "joining": True}
        return _release_first(app, wanted, router)


def _keep_running(app: App, wanted: Wanted, router: Environment | None, check_mode: bool) -> Result:
    """Keep the live release running; the result has the undeployed changes."""
    live, secrets = app.paths.live(), uploads.secrets(wanted)
    assert live
    result: Result = {
        "changed": not app.programs.is_running(live),
        "release": wanted["release"],
        "undeployed": undeployed(app.paths, live, wanted, secrets),
    }
    if check_mode:
        return result
    if release_id(live) == wanted["release"] and secret_files.has_set(app.paths, live, secrets):
        result["changed"] |= secret_files.store(app.paths, secrets)  # they may have been edited or removed
    if router and (lack := uploads.needs(app, wanted, None, router)):
        return {**result, **lack}
    if result["changed"]:
        app.programs.start(live)
    return {**result, "changed": http_router.configure(app, wanted["router"], router) or result["changed"]}


def _first_result(wanted: Wanted) -> Result:
    release = wanted["release"] if wanted["target"] == "inventory" else wanted["target"]
    return {"changed": True, "release": release, "undeployed": []}


def _release_first(app: App, wanted: Wanted, router: Environment | None) -> Result:
    """Start the first release."""
    result = _first_result(wanted)
    release = result["release"]
    environments = [uploads.environment(wanted, *wanted["wheels"]), *([router] if router else [])]
    staged = app.paths.path(release).exists()
    if not staged and (lack := uploads.needs(app, wanted, release, *environments)):
        return {**result, "changed": False, **lack}
    phases.acquire_lock(app, wanted, "first release", target=release)
    try:
        warm_up.clean_up(app, release, False)
        staging.prepare(app.paths)
        if not staged:
            phases.stage(app, wanted)
        warm_up.provide_files(app, release, uploads.secrets(wanted))
        # Before the warm-up, because the first release may need what the hooks do to get warm.
        said = phases.run_hooks_before(app, wanted, release)
        warm_up.warm_up(app, release)
        switching.switch(app, release, wanted["holder"]["by"], "first release")
        if wanted["singletons"] is not None:
            app.programs.assign_singletons(wanted["singletons"])
        app.programs.swap_further()
        http_router.configure(app, wanted["router"], router)
        said += phases.run_hooks_after(app, wanted, release)
    finally:
        app.rollout_lock.release()
    return {**result, "said": said, "apps": {app.name: {"hooks": app.paths.journal().hooks}}}


def state_absent(app: App, wanted: Wanted, check_mode: bool) -> Result:
    """Remove the app."""
    result: Result = {"changed": presence.is_present(app, wanted["purge"]), "release": None}
    if check_mode or not result["changed"]:
        return result
    phases.check_lock(app, wanted)
    with app.rollout_lock.one_step():
        phases.check_lock(app, wanted)
        return {**result, "changed": presence.remove(app, wanted["purge"], wanted["holder"]["by"])}


STATES = {"present": state_present, "absent": state_absent}
OPTIONS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "default": "present", "choices": list(STATES)},
    "target": {"type": "str", "default": "inventory"},
    "alone": {"type": "bool", "default": True},
    "purge": {"type": "bool", "default": False},
}


def run(app: App, wanted: Wanted, check_mode: bool) -> Result:
    """The module's result."""
    result = STATES[wanted["state"]](app, wanted, check_mode)
    return {"said": [], **result, "live": app.paths.live()}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name packs and renders."""
    module = AnsibleModule(argument_spec={**uploads.ARGUMENTS, **ARGUMENTS, **OPTIONS}, supports_check_mode=True)
    name = module.params["name"]
    try:
        result = run(app_on_host(name), module.params, module.check_mode)
    except FAILURES as error:
        module.fail_json(msg=explain(name, error), holder=getattr(error, "holder", {}))
    if result.get("undeployed"):
        module.warn(
            f"{name}: undeployed changes: {', '.join(result['undeployed'])}; playbooks/deploy.yml makes them live"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
