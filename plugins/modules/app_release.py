#!/usr/bin/python
"""Pack a release on one host, and stage it on another."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_release
short_description: Pack a release on one host, and stage it on another
options:
  app:
    description: The app's name.
    type: str
    required: true
  state:
    description:
      - V(packed) packs the release on a host that has it, and fetches it to the controller.
      - V(staged) uploads it to a host that lacks it, and stages it there. Nothing runs.
    type: str
    choices: [packed, staged]
    required: true
  release:
    description: The name of the release.
    type: str
    required: true
  archive:
    description: With V(staged), the C(archive) that V(packed) returned.
    type: path
  wheels:
    description: See M(flask_app). With V(staged), because the wheels come from the wheelhouse.
    type: dict
    default: {}
author: flaskfleet
"""

EXAMPLES = r"""
- name: Pack the release
  app_release:
    app: blog
    state: packed
    release: 1a2b3c4d5e6f
  register: packed
  delegate_to: app1

- name: Stage the release
  app_release:
    app: blog
    state: staged
    release: 1a2b3c4d5e6f
    archive: "{{ packed.archive }}"
    wheels: "{{ flask_app_wheels }}"
"""

RETURN = r"""
archive:
  description: The packed release on the controller, as a path below the project.
  type: path
  returned: O(state=packed)
needs:
  description: The uploads that the module lacks. The action plugin uploads them and runs the module again.
  type: dict
  returned: if something is missing
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet import staging, targets, uploads
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.host_module import FAILURES, app_on_host, explain
from ansible.module_utils.flaskfleet.paths import ReleaseFailed
from ansible.module_utils.flaskfleet.uploads import Result, Wanted


def state_packed(app: App, wanted: Wanted) -> Result:
    """Pack a release for a host that lacks it."""
    release = wanted["release"]
    if release not in app.paths.on_disk():
        raise ReleaseFailed(f"{app.name}: there is no release {release} on this host; {targets.on_disk(app)}")
    staging.pack(app.paths, release, Path(wanted["archive"]))
    return {"changed": False}


def state_staged(app: App, wanted: Wanted) -> Result:
    """Stage a release that another host has packed."""
    release, environment = wanted["release"], uploads.environment(wanted, *wanted["wheels"])
    if release in app.paths.on_disk():
        return {"changed": False}
    if environment.wheels is None:
        raise ReleaseFailed(
            f"{app.name}: the wheelhouse has no wheels of {release} for {environment.platform}; deploy what it was "
            "made from, or bring the wheelhouse of the controller that did"
        )
    if lack := uploads.needs(app, wanted, None, environment):
        return {"changed": False, **lack}
    staging.prepare(app.paths)
    staging.stage_packed(app.paths, release, Path(wanted["archive"]), environment)
    return {"changed": True}


STATES = {"packed": state_packed, "staged": state_staged}


def run(app: App, wanted: Wanted) -> Result:
    """The module's result."""
    with app.rollout_lock.one_step():
        return {"release": wanted["release"], **STATES[wanted["state"]](app, wanted)}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name fetches and uploads the archive."""
    used = ("name", "release", "archive", "python", "wheels", "wheels_archive")
    options = {name: uploads.ARGUMENTS[name] for name in used}
    state = {"type": "str", "choices": list(STATES), "required": True}
    module = AnsibleModule(argument_spec={**options, "state": state})
    name = module.params["name"]
    try:
        result = run(app_on_host(name), module.params)
    except FAILURES as error:
        module.fail_json(msg=explain(name, error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
