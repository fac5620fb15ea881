#!/usr/bin/python
"""Whether a host runs the singletons of an app."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_singletons
short_description: Whether a host runs the singletons of an app
description:
  - A singleton is a program that runs on one host of the fleet (C(run_on=one)).
options:
  app:
    description: The app's name.
    type: str
    required: true
  state:
    description: V(started) assigns them to this host and starts them, V(stopped) stops them.
    type: str
    choices: [started, stopped]
    required: true
author: flaskfleet
"""

EXAMPLES = r"""
- name: Stop the singletons of this host
  app_singletons:
    app: blog
    state: stopped
"""

RETURN = r"""
live:
  description: The live release; null if there is none.
  type: str
  returned: always
holder:
  description: The record of the lock's holder.
  type: dict
  returned: on failure, if another run holds the lock
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet import phases
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.host_module import ARGUMENTS, FAILURES, app_on_host, explain
from ansible.module_utils.flaskfleet.uploads import Result, Wanted


def run(app: App, wanted: Wanted, check_mode: bool) -> Result:
    """The module's result."""
    assigned = wanted["state"] == "started"
    if check_mode:
        return {"changed": assigned != app.paths.singletons_file.exists(), "live": app.paths.live()}
    phases.check_lock(app, wanted)
    with app.rollout_lock.one_step():
        phases.check_lock(app, wanted)
        changed = app.programs.assign_singletons(assigned)
        if changed and app.paths.live():
            app.programs.swap_further()
    return {"changed": changed, "live": app.paths.live()}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name adds the holder."""
    options = {
        "app": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["started", "stopped"], "required": True},
    }
    module = AnsibleModule(argument_spec={**ARGUMENTS, **options}, supports_check_mode=True)
    name = module.params["app"]
    try:
        result = run(app_on_host(name), module.params, module.check_mode)
    except FAILURES as error:
        module.fail_json(msg=explain(name, error), holder=getattr(error, "holder", {}))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
