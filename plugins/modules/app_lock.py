#!/usr/bin/python
"""The locks of a host's apps: one rollout at a time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_lock
short_description: Acquire, break or gather the locks of apps on a host
description:
  - A rollout acquires the locks of its apps on every host before it changes anything, on the first host first. The
    holder is known by a token of the controller's process. Every step of M(app_rollout) checks it. A reboot of the host
    releases the locks.
  - A lock whose holder is a process of this controller that has ended is broken without O(force).
options:
  state:
    description:
      - V(acquired) acquires the locks of all apps or of none.
      - V(broken) releases the locks of any holder. Use it if the holder's controller is gone.
      - V(gathered) changes nothing. Each state returns what the host has of the apps.
    type: str
    choices: [acquired, broken, gathered]
    default: acquired
  apps:
    description: Names of apps.
    type: list
    elements: str
    required: true
  operation:
    description: The operation that needs the locks, like C(deploy). A run that is refused has it in its message.
    type: str
    default: rollout
  reason:
    description: Why the locks are broken. It is logged to C(/var/log/flaskfleet.log).
    type: str
  force:
    description: Break the locks of another rollout, and acquire them.
    type: bool
    default: false
author: flaskfleet
"""

EXAMPLES = r"""
- name: Acquire the locks
  app_lock:
    apps: "{{ flask_apps.keys() }}"
    operation: deploy

- name: Break the locks
  app_lock:
    state: broken
    apps: "{{ flask_apps.keys() }}"
    reason: the controller's disk is dead
"""

RETURN = r"""
apps:
  description: >-
    Per app the release that is C(live), the one that was live C(before), the releases C(on_disk), those C(voided), the
    C(hooks) that are done, whether the host has its C(singletons), the record of the holder of its C(lock), and the
    release to which an C(interrupted) rollout has switched.
  type: dict
  returned: success
broken:
  description: The locks that were broken, in words.
  type: list
  elements: str
  returned: state is V(broken)
holder:
  description: The record of the lock's holder.
  type: dict
  returned: if another run holds the lock
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.app import App
from ansible.module_utils.flaskfleet.journal import now, record_change
from ansible.module_utils.flaskfleet.paths import ReleaseFailed
from ansible.module_utils.flaskfleet.rollout_lock import Locked, Record
from ansible.module_utils.flaskfleet.services import supervisor

Result = dict[str, Any]


def gather(app: App) -> Result:
    """The state of an app on the host."""
    journal, lock = app.paths.journal(), app.rollout_lock.record()
    return {
        "live": app.paths.live(),
        "before": app.paths.previous(),
        "on_disk": app.paths.on_disk(),
        "voided": list(journal.voided),
        "singletons": app.paths.singletons_file.exists(),
        "hooks": journal.hooks,
        "lock": lock,
        "interrupted": lock.get("interrupted") or {},
    }


def acquire(apps: list[App], holder: Record, break_holders: list[str], force: bool) -> bool:
    """Acquire the locks of all apps, or of none; whether that changed anything.

    :param break_holders: the tokens of holders that have ended.
    :raises Locked: another run holds one.
    """
    process = holder["process"]
    if all(app.rollout_lock.is_held_by(process) for app in apps):
        return False
    for app in apps:
        if not force:
            app.rollout_lock.check(process, *break_holders)
    for app in apps:
        with app.rollout_lock.one_step():
            app.rollout_lock.acquire(holder, break_lock=force or app.rollout_lock.is_held_by(*break_holders))
    return True


def break_locks(apps: list[App], by: str, reason: str, check_mode: bool) -> list[str]:
    """Release the locks of any holders, and log that; the broken locks in words."""
    broken = []
    for app in apps:
        lock, live = app.rollout_lock.record(), app.paths.live()
        if not lock:
            continue
        description = f"the lock of a {lock['what']} by {lock['by']} since {lock['since']}"
        if not check_mode:
            entry = {"app": app.name, "from": live, "release": live, "since": now(), "by": by}
            record_change(app.paths.audit_file, {**entry, "what": f"broke {description}: {reason}"})
            app.rollout_lock.release()
        broken.append(f"{app.name}: {description}")
    return broken


def run(module: AnsibleModule, app: Callable[[str], App]) -> Result:
    """The module's result."""
    wanted = module.params
    result: Result = {"changed": False}
    apps = [app(name) for name in wanted["apps"]]
    if wanted["state"] == "acquired" and not module.check_mode:
        holder = {**wanted["holder"], "what": wanted["operation"]}
        result["changed"] = acquire(apps, holder, wanted["break_holders"], wanted["force"])
    elif wanted["state"] == "broken":
        result["broken"] = break_locks(apps, wanted["holder"]["by"], wanted["reason"], module.check_mode)
        result["changed"] = bool(result["broken"])
    return {**result, "apps": {one.name: gather(one) for one in apps}}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name adds the holder."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "default": "acquired", "choices": ["acquired", "broken", "gathered"]},
            "apps": {"type": "list", "elements": "str", "required": True},
            "operation": {"type": "str", "default": "rollout"},
            "reason": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "holder": {"type": "dict", "default": {}},
            "break_holders": {"type": "list", "elements": "str", "default": []},
        },
        required_if=[("state", "broken", ["reason"])],
        supports_check_mode=True,
    )
    rpc = supervisor("/run/supervisor.sock")
    try:
        result = run(module, lambda name: App(name, rpc))
    except Locked as locked:
        module.fail_json(msg=f"{locked}. Nothing was changed.", holder=locked.holder)
    except (ReleaseFailed, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
