#!/usr/bin/python
"""Drain and undrain app servers on a load balancer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
short_description: Drain and undrain app servers on a load balancer
description:
  - Runs on a load balancer. Its nginx looks for flag files below C(/var/lib/flaskfleet/drain) at each request, and
    sends nothing to a host that has one; nothing is reloaded.
  - On a host whose nginx is not configured yet the module does nothing, because no requests pass there.
options:
  state:
    description:
      - V(drained) drains O(host). It is refused if no host would be left, if more than two would be drained, or if
        O(host) is the only one that answers one of O(checks) with 200.
      - V(idle) waits until the load balancer has no connection to O(host) any more, for O(timeout) seconds at most.
      - V(undrained) asks O(host) directly for its O(checks), undrains it, and asks the load balancer for them. If an
        answer is not 200, O(host) stays drained. It also stays drained if it is drained for another kind than O(kind).
      - V(gathered) only returns the drained hosts.
      - V(reconciled) removes the flags of hosts that are not among O(hosts). A new load balancer adopts the flags that
        O(gathered) has. Flags of earlier versions are rewritten.
    type: str
    choices: [drained, idle, undrained, gathered, reconciled]
    required: true
  host:
    description: The host's name in the inventory. For V(drained), V(idle) and V(undrained).
    type: str
  hosts:
    description: All app servers of the load balancer.
    type: list
    elements: str
    default: []
  gathered:
    description: What V(gathered) returned on the load balancers, each with C(drained). For V(reconciled).
    type: list
    elements: dict
    default: []
  kind:
    description:
      - V(run) is a drain for the time of a run, which undrains the host itself. V(quarantine) is the drain of a failed
        rollout; a later rollout undrains the host once it runs the releases of the fleet. V(manual) is the drain of a
        person, who undrains the host. A later kind outweighs an earlier one.
      - With V(undrained), only a host that is drained for this kind; without it, for any kind.
    type: str
    choices: [run, quarantine, manual]
  reason:
    description: Why the host is drained, in words. For V(drained).
    type: str
  address:
    description: The host's address, IPv4 or IPv6, or a name of it. For V(idle) and V(undrained).
    type: str
  ports:
    description: The ports where the host's nginx answers, the one for O(checks) first. For V(idle) and V(undrained).
    type: list
    elements: int
    default: [80]
  balancer_port:
    description: The port where the load balancer's nginx answers. For V(undrained).
    type: int
    default: 80
  checks:
    description:
      - What has to be answered with 200, each a C(server_name) and a C(path). For V(drained) and V(undrained).
      - For V(drained) with the C(servers) that have it, address and port by name.
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
- name: Drain the host
  drain:
    state: drained
    host: app2
    hosts: "{{ groups.app_servers }}"
    kind: manual
    reason: a new disk
  delegate_to: lb1

- name: Wait for the last request of the host
  drain:
    state: idle
    host: app2
    address: 10.12.28.28
  delegate_to: lb1
"""

RETURN = r"""
drained:
  description: >-
    The drained hosts by name, each with its C(kind), C(reason), the user that drained it (C(by)), the run's C(process)
    and its time in epoch seconds (C(since)).
  type: dict
  returned: success
removed:
  description: The hosts whose flags were removed.
  type: list
  elements: str
  returned: state is V(reconciled)
adopted:
  description: The hosts that are drained because other load balancers have drained them.
  type: list
  elements: str
  returned: state is V(reconciled)
converted:
  description: The hosts whose flags were of an earlier version, and were rewritten.
  type: list
  elements: str
  returned: state is V(reconciled)
"""

import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.drains import KINDS, Drains, Refused, await_idle, undrain_if_healthy
from ansible.module_utils.flaskfleet.files import Busy

Params = dict[str, Any]


def drain(drains: Drains, params: Params, check_mode: bool) -> dict[str, Any]:
    """Drain the host."""
    fields = {name: params[name] for name in ("kind", "reason", "by", "process")}
    return {"changed": drains.drain(params["host"], params["checks"], check_mode, **fields)}


def idle(drains: Drains, params: Params, check_mode: bool) -> dict[str, Any]:
    """Wait for the last request of the host.

    :raises Refused: there are still connections.
    """
    left = 0 if check_mode else await_idle(params["address"], params["ports"], params["timeout"])
    if left:
        host = params["host"]
        server = f"{params['address']}:{' '.join(map(str, params['ports']))}"
        raise Refused(
            f"{host} gets no new requests, but after {params['timeout']:g} s the load balancer still has {left} "
            f"connection{'s' * (left > 1)} to {server}: requests that are not done. Wait longer with "
            f"-e drain_seconds=<seconds>, or undrain {host}: playbooks/undrain.yml -e host={host}"
        )
    return {"changed": False}


def undrain(drains: Drains, params: Params, check_mode: bool) -> dict[str, Any]:
    """Undrain the host once it passes its checks."""
    server = (params["address"], params["ports"][0])
    return {
        "changed": undrain_if_healthy(
            drains, params["host"], params["kind"], server, params["balancer_port"], params["checks"],
            params["timeout"], check_mode,
        )
    }  # fmt: skip


def gather(drains: Drains, params: Params, check_mode: bool) -> dict[str, Any]:
    """Change nothing: every state returns the drained hosts."""
    return {"changed": False}


def reconcile(drains: Drains, params: Params, check_mode: bool) -> dict[str, Any]:
    """Bring the flags into line with the inventory, the other load balancers and this version."""
    flags = [flag for result in params["gathered"] for flag in result.get("drained", {}).values()]
    hosts = {
        "removed": drains.remove_unknown(check_mode),
        "adopted": drains.adopt(flags, check_mode),
        "converted": drains.convert(check_mode),
    }
    return {"changed": any(hosts.values()), **hosts}


STATES = {"drained": drain, "idle": idle, "undrained": undrain, "gathered": gather, "reconciled": reconcile}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name adds ``by`` and ``process``."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "host": {"type": "str"},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "gathered": {"type": "list", "elements": "dict", "default": []},
            "kind": {"type": "str", "choices": list(KINDS)},
            "reason": {"type": "str"},
            "by": {"type": "str"},
            "process": {"type": "str"},
            "address": {"type": "str"},
            "ports": {"type": "list", "elements": "int", "default": [80]},
            "balancer_port": {"type": "int", "default": 80},
            "checks": {"type": "list", "elements": "dict", "default": []},
            "timeout": {"type": "float", "default": 60},
        },
        required_if=[
            ("state", "drained", ["host", "hosts", "kind", "reason"]),
            ("state", "idle", ["host", "address"]),
            ("state", "undrained", ["host", "address"]),
            ("state", "reconciled", ["hosts"]),
        ],
        supports_check_mode=True,
    )
    drains = Drains(module.params["hosts"])
    if not drains.is_balancer():
        module.exit_json(changed=False, drained={}, removed=[], adopted=[], converted=[])
    try:
        result = STATES[module.params["state"]](drains, module.params, module.check_mode)
        flags = drains.flags()
    except Busy as busy:
        process = f"process {busy} on {socket.gethostname()}"
        module.fail_json(msg=f"{process} drains or undrains a host right now. Nothing was changed; try again")
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result, drained=flags)


if __name__ == "__main__":
    main()
