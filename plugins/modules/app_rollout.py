#!/usr/bin/python
"""Phases of a rollout on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_rollout
short_description: Phases of a rollout on a host
description:
  - A rollout switches apps from their live releases to others. All hosts take each phase together, so that a release
    becomes live on all of them or on none. Each phase runs to its end on the host, even if the controller goes away.
options:
  phases:
    description:
      - The phases to take, in this order, each for all of O(apps) before the next.
      - V(warm_up) stages the target, runs it beside the live release, and waits until every worker has answered its
        health path. A release that fails is removed, and its log is in the message. If the target is live already,
        an interrupted rollout to it is finished.
      - V(before_switch) and V(after_switch) run the app's hooks of that name.
      - V(switch) points C(current) at the warm release. A rollback voids the release that was live before it.
      - V(watch) fails if the error rate of the canary is too high, see O(canary). V(confirm) checks the health
        path once.
      - V(roll_back) undoes the run on this host, the switch too. It is possible until V(retire).
      - V(retire) starts the workers and schedulers of the live release, stops the old release once its last request is
        done, removes releases beyond O(keep_releases), and releases the lock. It is taken even if V(after_switch)
        fails.
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
      - The release to V(warm_up). V(inventory) is the one that the inventory asks for, V(previous) the one that was
        live before, V(live) the live one, to restart it. Anything else is the id of a release on the host.
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
      - How V(watch) judges. It watches for C(seconds) and fails if more than C(failed_percent) of the requests fail
        (a status of 500 or more). It judges at least C(requests) many; if clients send fewer, it asks the health path.
    type: dict
    default: {}
  watched:
    description: The apps that V(watch) watches.
    type: list
    elements: str
    default: []
  access_log:
    description: nginx's log, in which an app's requests are counted, with C({app}) for its name; empty if none.
    type: str
    default: ''
  hooks_done:
    description: The commands of V(before_switch) that other hosts have run, by app, release and command.
    type: dict
    default: {}
  singletons:
    description: Whether this host runs the singletons after V(retire), by app. An app that is not named keeps its host.
    type: dict
    default: {}
  keep_releases:
    description: How many releases stay on disk for a rollback, the live one included.
    type: int
    default: 5
  keep_warm:
    description: Whether the previous release keeps running, so that a rollback needs no warm-up.
    type: bool
    default: false
  templates:
    description: See M(flask_app). V(warm_up) needs it and the next three options.
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
- name: Warm up the previous release
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
  description: The result of each app, by name; on failure, too.
  type: dict
  returned: always
  contains:
    release:
      description: The release that the last phase worked on.
      type: str
    live:
      description: The release that is live after the phases.
      type: str
    switching:
      description: C(deploy), C(rollback) or C(restart), if a release is warm and further phases must follow.
      type: str
    hooked:
      description: Whether V(before_switch) has commands to run.
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
      description: How many C(requests) the release has answered since the switch, and how many C(failed).
      type: dict
    said:
      description: The output of hooks, line by line.
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
  returned: on failure, if another run holds the lock
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
    """The result in check mode."""
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
    """Run as an Ansible module; the action plugin of the same name packs and renders."""
    module = AnsibleModule(argument_spec={**ARGUMENTS, **OPTIONS}, supports_check_mode=True)
    common = {name: value for name, value in module.params.items() if name not in ("phases", "apps")}
    name = ""
    try:
        apps = []
        for wanted in sorted(module.params["apps"], key=lambda app: app["name"]):
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
    module.exit_json(changed=any(result["changed"] for result in results.values()), apps=results)


if __name__ == "__main__":
    main()
