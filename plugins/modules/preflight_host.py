#!/usr/bin/python
"""See that what a host is about to use is free, or ours."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_host
short_description: See that ports and users are free, or ours
description: Only looks. Fails with all problems at once, each with the owner and what to do.
options:
  ports:
    description: >-
      Ports with the program that may listen on them, the variable that sets them, and, where root may not see the
      program, the file and line that make it C(ours).
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

import grp
import os
import pwd
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.journal import Journal
from ansible.module_utils.flaskfleet.sockets import tcp_owners

JOURNALS = Path("/var/lib/flaskfleet/apps")


def taken_ports(ports: list[dict[str, Any]]) -> list[str]:
    """Ports that another program listens on, in words."""
    return [
        f"{claim['variable']}: port {claim['port']} is taken by {owner.name} (pid {owner.pid}); "
        "stop that, or choose another port"
        for claim in ports
        for owner in tcp_owners(claim["port"])
        if owner.name != claim["program"] and not _is_ours(claim)
    ]


def _is_ours(claim: dict[str, Any]) -> bool:
    """Whether a file that we wrote says so: in a container root can't see which socket is another user's."""
    if not claim.get("ours"):
        return False
    path, line = claim["ours"]
    return Path(path).exists() and line in Path(path).read_text()


def foreign_names(users: list[dict[str, Any]]) -> list[str]:
    """Apps whose name is somebody else's user, group or folder on this host, in words."""
    homes = {user.pw_name: user.pw_dir for user in pwd.getpwall()}
    groups = {group.gr_name for group in grp.getgrall()}
    problems = []
    for claim in users:
        name, home = claim["name"], claim["home"]
        record = JOURNALS / f"{name}.json"
        if homes.get(name) == home and Journal(record, None).user:
            continue  # ours
        taken = [f"a user {name} with the home {homes[name]}"] if name in homes else []
        taken += [f"a group {name}"] if name in groups else []
        if not record.exists():  # remove_app.yml leaves it, with the folders
            taken += [folder for folder in (home, f"/var/log/{name}") if _is_used(Path(folder))]
        if taken:
            problems.append(f"{claim['variable']}: there is {taken[0]} already; give the app another name")
    return problems


def _is_used(folder: Path) -> bool:
    """Whether there is something in a folder: a file system of its own may be mounted for an app."""
    return folder.exists() and not (folder.is_dir() and set(os.listdir(folder)) <= {"lost+found"})


def main() -> None:
    """Run as an Ansible module."""
    lists = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(argument_spec={"ports": lists, "users": lists}, supports_check_mode=True)
    problems = taken_ports(module.params["ports"]) + foreign_names(module.params["users"])
    if problems:
        module.fail_json(msg="\n".join(["Nothing was changed.", *(f"- {problem}" for problem in problems)]))
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
