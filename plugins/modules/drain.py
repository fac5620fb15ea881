#!/usr/bin/python
"""Take a host out of a balancer, wait for its last request, put it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
short_description: Take a host out of a balancer, wait for its last request, put it back
description:
  - Runs on a balancer. Flags below C(/var/lib/flaskfleet/drain) tell its nginx, at each request, whom to leave out;
    nothing is reloaded. On a host that is no balancer yet, which sends nothing to anybody, it does nothing.
options:
  state:
    description:
      - V(out) takes O(host) out. Refused where nobody would be left, more than two were out, or O(host) alone answers
        one of O(checks) with 200.
      - V(idle) waits until the balancer has no connection to the host any more, for O(timeout) seconds at most.
      - V(in) asks the host directly for its O(checks), puts it in, and asks the balancer itself for them; where an
        answer is not 200 the host is out still. Where it is out for another reason than O(kind), it stays so.
      - V(seen) tells who is out.
      - V(known) forgets the flags of hosts that are not among O(hosts), and on a balancer that is new takes out whom
        the others leave out.
    type: str
    choices: [out, idle, in, seen, known]
    required: true
  host:
    description: The host's name in the inventory. For V(out), V(idle) and V(in).
    type: str
  hosts:
    description: All that the balancer sends to.
    type: list
    elements: str
    default: []
  elsewhere:
    description: What this module told of other balancers, each with C(out). For V(known).
    type: list
    elements: dict
    default: []
  kind:
    description:
      - Why. V(work) is put back by whatever has taken it out, V(disagrees) by a rollout once its release is the
        fleet's, V(drain) by a person. A later one outweighs an earlier one.
      - With V(in), only hosts that are out for this; without it, for whatever reason.
    type: str
    choices: [work, disagrees, drain]
  reason:
    description: Why, in words. For V(out).
    type: str
  address:
    description: The host's IPv4 address, or a name of it. For V(idle) and V(in).
    type: str
  ports:
    description: The ports where the host's nginx answers, the one for O(checks) first. For V(idle) and V(in).
    type: list
    elements: int
    default: [80]
  own_port:
    description: The port where the balancer's nginx answers. For V(in).
    type: int
    default: 80
  checks:
    description:
      - What has to be answered with 200, each a C(server_name) and a C(path). For V(out) and V(in).
      - For V(out) with the C(servers) that have it, address and port by name.
    type: list
    elements: dict
    default: []
  timeout:
    description: Seconds to wait for the last request, or for the first answer.
    type: float
    default: 60
author: flaskfleet
"""

EXAMPLES = r"""
- name: Take it out
  drain:
    state: out
    host: app2
    hosts: "{{ groups.app_servers }}"
    kind: drain
    reason: a new disk
  delegate_to: lb1

- name: Wait for its last request
  drain:
    state: idle
    host: app2
    address: 10.12.28.28
  delegate_to: lb1
"""

RETURN = r"""
out:
  description: >-
    By host, C(kind), C(reason), C(by) whom, of which C(process) and C(since) when (epoch seconds) it is out.
  type: dict
  returned: success
forgotten:
  description: The hosts whose flags were removed.
  type: list
  elements: str
  returned: state is V(known)
learned:
  description: The hosts that are out because others leave them out.
  type: list
  elements: str
  returned: state is V(known)
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.drains import Drains, Refused, await_idle, let_in
from ansible.module_utils.flaskfleet.files import Busy

Wanted = dict[str, Any]


def out(drains: Drains, wanted: Wanted, check_mode: bool) -> dict[str, Any]:
    """Take the host out."""
    return {
        "changed": drains.take_out(
            wanted["host"],
            wanted["checks"],
            check_mode,
            **{name: wanted[name] for name in ("kind", "reason", "by", "process")},
        ),
    }


def idle(drains: Drains, wanted: Wanted, check_mode: bool) -> dict[str, Any]:
    """Wait for its last request.

    :raises Refused: there is one still.
    """
    left = 0 if check_mode else await_idle(wanted["address"], wanted["ports"], wanted["timeout"])
    if left:
        where = f"{wanted['address']}:{' '.join(map(str, wanted['ports']))}"
        raise Refused(
            f"{wanted['host']} is out, and after {wanted['timeout']:g} s the balancer has {left} "
            f"connection{'s' * (left > 1)} to {where} still, requests that go on. Give them longer, "
            "-e drain_seconds=<seconds>, or put it back: playbooks/undrain.yml"
        )
    return {"changed": False}


def put_in(drains: Drains, wanted: Wanted, check_mode: bool) -> dict[str, Any]:
    """Put the host in."""
    there = (wanted["address"], wanted["ports"][0])
    return {
        "changed": let_in(
            drains, wanted["host"], wanted["kind"], there, wanted["own_port"], wanted["checks"], wanted["timeout"],
            check_mode,
        )
    }  # fmt: skip


def seen(drains: Drains, wanted: Wanted, check_mode: bool) -> dict[str, Any]:
    """Only look."""
    return {"changed": False}


def known(drains: Drains, wanted: Wanted, check_mode: bool) -> dict[str, Any]:
    """Forget the flags of others, and learn those of a balancer that joins."""
    flags = [flag for balancer in wanted["elsewhere"] for flag in balancer.get("out", {}).values()]
    forgotten, learned = drains.forget(check_mode), drains.learn(flags, check_mode)
    return {"changed": bool(forgotten or learned), "forgotten": forgotten, "learned": learned}


STATES = {"out": out, "idle": idle, "in": put_in, "seen": seen, "known": known}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name says who asks."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "host": {"type": "str"},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "elsewhere": {"type": "list", "elements": "dict", "default": []},
            "kind": {"type": "str", "choices": ["work", "disagrees", "drain"]},
            "reason": {"type": "str"},
            "by": {"type": "str"},
            "process": {"type": "str"},
            "address": {"type": "str"},
            "ports": {"type": "list", "elements": "int", "default": [80]},
            "own_port": {"type": "int", "default": 80},
            "checks": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "float", "default": 60},
        },
        required_if=[
            ("state", "out", ["host", "hosts", "kind", "reason"]),
            ("state", "idle", ["host", "address"]),
            ("state", "in", ["host", "address"]),
            ("state", "known", ["hosts"]),
        ],
        supports_check_mode=True,
    )
    drains = Drains(module.params["hosts"])
    if not drains.is_balancer():
        module.exit_json(changed=False, out={}, forgotten=[], learned=[])
    try:
        result = STATES[module.params["state"]](drains, module.params, module.check_mode)
        flags = drains.flags()
    except Busy as busy:
        module.fail_json(
            msg=f"process {busy} takes hosts out or puts them in right now; try again. Nothing was changed."
        )
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result, out=flags)


if __name__ == "__main__":
    main()
