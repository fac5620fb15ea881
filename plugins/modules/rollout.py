#!/usr/bin/python
"""Who may change the apps of a host: one rollout at a time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Claim apps on a host for a rollout, or give them back
description:
  - A rollout claims its apps on every host before it changes anything, on the first host first. Every step of
    M(app_release) presents the claim's token, the controller's process. A reboot of the host ends a claim.
  - What a process of this controller has claimed that is gone, is taken over.
options:
  state:
    description:
      - V(claimed) claims all of the apps or none, and tells what the host has of them.
      - V(released) ends whoever's claim, for a controller that is gone.
      - V(seen) only tells.
    type: str
    choices: [claimed, released, seen]
    default: claimed
  apps:
    description: Names of apps.
    type: list
    elements: str
    required: true
  what:
    description: What is going to be done, for those who are refused meanwhile.
    type: str
    default: rollout
  reason:
    description: Why a claim is ended. It is kept in C(/var/log/flaskfleet.log).
    type: str
  force:
    description: Take over from a rollout that goes on.
    type: bool
    default: false
author: flaskfleet
"""

EXAMPLES = r"""
- name: Take the lock
  rollout:
    apps: "{{ flask_apps.keys() }}"
    what: deploy
"""

RETURN = r"""
apps:
  description: >-
    Per app what is C(live), what was C(before), the releases C(on_disk), those C(voided), the C(hooks) that are done,
    whether the host has its C(singletons), the C(rollout) that goes on, and what an C(interrupted) one has made live.
  type: dict
  returned: success
released:
  description: The claims that were ended, in words.
  type: list
  elements: str
  returned: state is V(released)
holder:
  description: The rollout that is in the way.
  type: dict
  returned: on failure
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.journal import now, record_change
from ansible.module_utils.flaskfleet.layout import ReleaseFailed
from ansible.module_utils.flaskfleet.releases import App, InUse
from ansible.module_utils.flaskfleet.services import supervisor

Result = dict[str, Any]


def has(app: App) -> Result:
    """What the host has of an app."""
    journal, rollout = app.journal(), app.rollout()
    return {
        "live": app.live(),
        "before": app.before(),
        "on_disk": app.on_disk(),
        "voided": list(journal.voided),
        "singletons": app.singletons_file.exists(),
        "hooks": journal.hooks,
        "rollout": rollout,
        "interrupted": rollout.get("interrupted") or {},
    }


def claim(apps: list[App], rollout: dict[str, Any], take_over: str, force: bool) -> bool:
    """Claim all apps, or none; whether that changed anything.

    :raises InUse: somebody else has one.
    """
    mine = rollout["process"]
    if all(app.rollout().get("process") == mine for app in apps):
        return False
    for app in apps:
        if not force:
            app.give_way(mine, take_over)
    for app in apps:
        with app.lock():
            app.begin(rollout, over=force or app.rollout().get("process") == take_over)
    return True


def release(apps: list[App], by: str, reason: str, check_mode: bool) -> list[str]:
    """End whoever's claims; which ones, in words."""
    held = [(app, app.rollout()) for app in apps if app.rollout()]
    for app, rollout in [] if check_mode else held:
        words = f"unlocked, from a {rollout['what']} by {rollout['by']} since {rollout['since']}: {reason}"
        live = app.live()
        record_change(
            app.audit_file, {"app": app.name, "from": live, "release": live, "since": now(), "by": by, "what": words}
        )
        app.end()
    return [f"{app.name}: the {one['what']} by {one['by']} since {one['since']}" for app, one in held]


def run(module: AnsibleModule, app: Callable[[str], App]) -> Result:
    """The module's result."""
    wanted, result = module.params, {"changed": False}
    apps = [app(name) for name in wanted["apps"]]
    if wanted["state"] == "claimed" and not module.check_mode:
        rollout = {**wanted["rollout"], "what": wanted["what"]}
        result["changed"] = claim(apps, rollout, wanted["take_over"], wanted["force"])
    elif wanted["state"] == "released":
        result["released"] = release(apps, wanted["rollout"]["by"], wanted["reason"], module.check_mode)
        result["changed"] = bool(result["released"])
    return {**result, "apps": {one.name: has(one) for one in apps}}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name says whose rollout it is."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "claimed", "choices": ["claimed", "released", "seen"]},
            "apps": {"type": "list", "elements": "str", "required": True},
            "what": {"type": "str", "default": "rollout"},
            "reason": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "rollout": {"type": "dict", "default": {}},
            "take_over": {"type": "str", "default": "nobody"},
        },
        required_if=[("state", "released", ["reason"])],
        supports_check_mode=True,
    )
    rpc = supervisor("/run/supervisor.sock")
    try:
        result = run(module, lambda name: App(name, rpc))
    except InUse as other:
        module.fail_json(msg=f"{other}. Nothing was changed.", holder=other.rollout)
    except (ReleaseFailed, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
