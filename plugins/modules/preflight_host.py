#!/usr/bin/python
"""See that what a host is about to use is free, or ours."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_host
short_description: See that ports and users are free, or ours
description: Only looks. Fails with all problems at once, each with the owner and what to do.
options:
  ports:
    description: Ports with the program that may listen on them, and the variable that sets them.
    type: list
    elements: dict
    default: []
  users:
    description: Users with the home directory that makes them ours, and the variable that names them.
    type: list
    elements: dict
    default: []
author: flaskfleet
"""

EXAMPLES = r"""
- name: Check the ports
  preflight_host:
    ports: [{variable: nginx_http_port, port: 80, program: nginx}]
"""

RETURN = r"""
msg:
  description: All problems, a line each.
  type: str
  returned: failure
"""

import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.sockets import tcp_owners


def taken_ports(ports: list[dict[str, Any]]) -> list[str]:
    """Ports that another program listens on, in words."""
    return [
        f"{claim['variable']}: port {claim['port']} is taken by {owner.name} (pid {owner.pid}); "
        "stop that, or choose another port"
        for claim in ports
        for owner in tcp_owners(claim["port"])
        if owner.name != claim["program"]
    ]


def foreign_users(users: list[dict[str, Any]]) -> list[str]:
    """Users that exist and are somebody else's, in words."""
    homes = {user.pw_name: user.pw_dir for user in pwd.getpwall()}
    return [
        f"{claim['variable']}: there is a user {claim['name']} already, with the home {homes[claim['name']]}; "
        "give the app another name"
        for claim in users
        if homes.get(claim["name"], claim["home"]) != claim["home"]
    ]


def main() -> None:
    """Run as an Ansible module."""
    lists = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(argument_spec={"ports": lists, "users": lists}, supports_check_mode=True)
    problems = taken_ports(module.params["ports"]) + foreign_users(module.params["users"])
    if problems:
        module.fail_json(msg="\n".join(["Nothing was changed.", *(f"- {problem}" for problem in problems)]))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
