#!/usr/bin/python
"""Phases of a rollout on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_rollout
short_description: Phases of a rollout on a host
description:
  - A rollout moves apps from their live releases to others. Several hosts take each phase together, so that a release
    becomes live on all of them or on none. Each phase runs to its end on the host, even if the controller goes away.
options:
  phases:
    description:
      - The phases to take, in this order, each for all of O(apps) before the next.
      - V(warm_up) stages the target, runs it beside the live release, and waits until every worker has answered its
        health path. A release that can't is removed, and the app's own error is the message. If the target is live
        already, what an interrupted run has left is finished.
      - V(before_switch) and V(after_switch) run the app's hooks of that name.
      - V(switch) points C(current) at what was warmed up. A rollback voids the release that it leaves.
      - V(watch) fails if the release that is live on this host first is not good enough for the other hosts, see
        O(canary). V(confirm) asks the release once.
      - V(roll_back) undoes what the run has done on this host, the switch too. It can until V(retire).
      - V(retire) lets the app's further programs be those of the live release, stops the old ones once their last
        request is done, removes what is older than O(keep_releases), and releases the lock. It is taken even if
        V(after_switch) fails.
    type: list
    elements: str
    choices: [warm_up, before_switch, switch, watch, confirm, roll_back, after_switch, retire]
    required: true
  apps:
    description: Names of apps. With none, nothing is done.
    type: list
    elements: str
    required: true
  entries:
    description: C(flask_apps) with their defaults (filter C(complete_apps)).
    type: dict
    required: true
  target:
    description:
      - The release to V(warm_up). V(inventory) is the one that the inventory asks for, V(previous) the one before,
        V(live) the live one, to restart it. Anything else is the id of a release on the host.
    type: str
    default: inventory
  targets:
    description: Targets of single apps, by name.
    type: dict
    default: {}
  force:
    description: Switch to a voided release again, and break the lock of another run.
    type: bool
    default: false
  canary:
    description:
      - How V(watch) judges. For C(seconds), and at least so many C(requests), which may not fail (a status of 500 and
        more) for more than C(failed_percent). If clients send fewer, the health path is asked.
    type: dict
    default: {}
  watched:
    description: The apps for which V(watch) is taken; for the others it does nothing.
    type: list
    elements: str
    default: []
  access_log:
    description: nginx's log of an app, with C({app}) for its name, in which requests are counted; empty for none.
    type: str
    default: ''
  hooks_done:
    description: By app the commands of V(before_switch) that other hosts have run, by release and command.
    type: dict
    default: {}
  singletons:
    description: By app whether this host runs its singletons after V(retire). Without it that stays as it is.
    type: dict
    default: {}
  keep_releases:
    description: How many releases stay on disk for a rollback, the live one included.
    type: int
    default: 5
  keep_warm:
    description: Whether the previous release stays up, for a rollback that is one rename.
    type: bool
    default: false
  templates:
    description: See M(flask_app). For V(warm_up), as the next three.
    type: list
    elements: path
    default: []
  router_template:
    description: See M(flask_app).
    type: path
  settings:
    description: See M(flask_app).
    type: dict
    default: {}
  wheels:
    description: See M(flask_app).
    type: dict
    default: {}
author: flaskfleet
"""

EXAMPLES = r"""
- name: Warm up the release before
  app_rollout:
    phases: [warm_up]
    apps: [blog]
    entries: "{{ flask_apps | complete_apps }}"
    target: previous

- name: Switch and retire
  app_rollout:
    phases: [switch, confirm, retire]
    apps: [blog]
    entries: "{{ flask_apps | complete_apps }}"
"""

RETURN = r"""
apps:
  description: What came of each app, by name; on failure, too.
  type: dict
  returned: always
  contains:
    release:
      description: The release that the last phase was about.
      type: str
    live:
      description: The release that is live in the end.
      type: str
    switching:
      description: C(deploy), C(rollback) or C(restart), if further phases are to follow V(warm_up).
      type: str
    hooked:
      description: Whether V(before_switch) has something to run.
      type: bool
    before:
      description: The release that was live before, with C(switching).
      type: str
    seconds:
      description: How long V(warm_up) took.
      type: float
    at:
      description: When C(current) was renamed, in epoch seconds, after V(switch).
      type: float
    traffic:
      description: Requests of the release since the switch (C(requests)), and those that C(failed).
      type: dict
    said:
      description: What hooks said, a line each.
      type: list
      elements: str
    undeployed:
      description: In check mode, what the inventory asks for that is not live, like C(processes 4 → 8).
      type: list
      elements: str
    failed:
      description: Why a phase failed, in words.
      type: str
holder:
  description: The record of the lock's holder.
  type: dict
  returned: on failure, if there is one
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet import phases, targets, uploads
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.app_state import undeployed
from ansible.module_utils.flaskfleet.host_module import ARGUMENTS, FAILURES, app_on_host, explain
from ansible.module_utils.flaskfleet.uploads import Result, Wanted

APP_OPTIONS: dict[str, dict[str, Any]] = {
    "target": {"type": "str", "default": "inventory"},
    "access_log": {"type": "path"},
    "canary": {"type": "dict"},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "phases": {"type": "list", "elements": "str", "choices": list(phases.PHASES), "required": True},
    "apps": {
        "type": "list", "elements": "dict", "required": True, "options": {**uploads.ARGUMENTS, **APP_OPTIONS},
    },
    "keep_releases": {"type": "int", "default": 5},
    "keep_warm": {"type": "bool", "default": False},
}  # fmt: skip


def predict(app: App, wanted: Wanted) -> Result:
    """What a rollout would do, for check mode."""
    live = app.paths.live()
    if not live:
        return {"changed": True, "release": wanted["release"], "live": None, "undeployed": []}
    release = targets.find(app, wanted, {})
    words = undeployed(app.paths, live, wanted, uploads.secrets(wanted)) if wanted["target"] == "inventory" else []
    return {
        "changed": release is not None or bool(words),
        "release": release or live,
        "live": live,
        "undeployed": words,
    }


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name has packed and rendered."""
    module = AnsibleModule(argument_spec={**ARGUMENTS, **OPTIONS}, supports_check_mode=True)
    common = {name: value for name, value in module.params.items() if name not in ("phases", "apps")}
    name = ""
    try:
        apps = []
        for wanted in sorted(module.params["apps"], key=lambda one: one["name"]):
            name = wanted["name"]
            apps.append((app_on_host(name), {**common, **wanted}))
        if module.check_mode:
            run = phases.Run(apps if "warm_up" in module.params["phases"] else [])
            run.each(predict)
            results = run.end()
        else:
            results = phases.run(module.params["phases"], apps)
    except phases.RolloutFailed as failure:
        module.fail_json(msg=str(failure), apps=failure.results, holder=failure.holder or {})
    except FAILURES as error:
        module.fail_json(msg=explain(name, error), apps={})
    module.exit_json(changed=any(one["changed"] for one in results.values()), apps=results)


if __name__ == "__main__":
    main()
