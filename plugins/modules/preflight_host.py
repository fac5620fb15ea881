#!/usr/bin/python
"""See that what a host is about to use is free, or ours."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_host
short_description: See that ports, users and files are free, or ours
description:
  - Only looks. Fails with all problems at once, each with the owner and what to do.
  - Gathers facts that the module C(setup) does not know, so that they cost no task of their own.
  - Before our nginx.conf is there, sites of others are a problem, because it serves none of them. Before our
    supervisord.conf is there, programs of others are told in a warning, because they are restarted once.
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
  files:
    description: Paths that are going to be written. Who else has written there, and is no package, is a problem.
    type: list
    elements: str
    default: []
  take_over:
    description: Shell patterns of files that are no problem.
    type: list
    elements: str
    default: []
  http3:
    description: Whether nginx is to offer HTTP/3, which it can from Debian 13 on.
    type: bool
    default: false
  timers:
    description: Whether systemd is to renew certificates of an ACME directory.
    type: bool
    default: false
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
ansible_facts:
  description: >-
    C(has_ipv6), whether the kernel has IPv6. C(has_upstream_tls), whether nginx is configured to speak TLS with app
    servers.
  type: dict
  returned: success
"""

import grp
import hashlib
import os
import pwd
import subprocess
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.sys_info import get_distribution, get_distribution_version
from ansible.module_utils.flaskfleet.files import read_json
from ansible.module_utils.flaskfleet.journal import Journal
from ansible.module_utils.flaskfleet.sockets import has_ipv6, tcp_owners

JOURNALS = Path("/var/lib/flaskfleet/apps")
TREES = "var/lib/flaskfleet/trees"
NGINX = "/etc/nginx/nginx.conf"
SITES = ("/etc/nginx/sites-enabled/*", "/etc/nginx/conf.d/*.conf")
SUPERVISOR = "/etc/supervisor/supervisord.conf"
PROGRAMS = "/etc/supervisor/conf.d/*.conf"
HTTP3_DEBIAN = 13  # nginx 1.26, of which Debian compiles the module


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
    problems = []
    for claim in users:
        name, home = claim["name"], claim["home"]
        record = JOURNALS / f"{name}.json"
        # By name: a directory service need not list whom it knows.
        user, group = _found(pwd.getpwnam, name), _found(grp.getgrnam, name)
        if user and user.pw_dir == home and Journal(record, None).user:
            continue  # ours
        taken = [f"a user {name} with the home {user.pw_dir}"] if user else []
        taken += [f"a group {name}"] if group else []
        if not record.exists():  # remove_app.yml leaves it, with the folders
            taken += [folder for folder in (home, f"/var/log/{name}") if _is_used(Path(folder))]
        if taken:
            problems.append(f"{claim['variable']}: there is {taken[0]} already; give the app another name")
    return problems


def _is_used(folder: Path) -> bool:
    """Whether there is something in a folder: a file system of its own may be mounted for an app."""
    return folder.exists() and not (folder.is_dir() and set(os.listdir(folder)) <= {"lost+found"})


def _found(find: Callable[[str], Any], name: str) -> Any:
    try:
        return find(name)
    except KeyError:
        return None


def foreign_files(files: list[str], take_over: list[str], root: Path = Path("/")) -> tuple[list[str], list[str]]:
    """What others have configured on this host and would lose, and what they would notice, in words.

    :param files: the paths that are going to be written.
    :param take_over: shell patterns of those that may be lost.
    :returns: problems, and warnings.
    """
    ours = {path for record in (root / TREES).glob("*/*.json") for path in _written(read_json(record))}
    new = [path for path in files if path not in ours]
    there = [path for path in new if os.path.lexists(root / path[1:])]
    sites = [path for pattern in SITES for path in _below(root, pattern)] if NGINX in new else []
    programs = _below(root, PROGRAMS) if SUPERVISOR in new else []
    untouched = _untouched_conffiles(root) if there or sites else set()

    def lost(paths: list[str]) -> list[str]:
        return [
            path
            for path in paths
            if (root / path[1:]).resolve() not in untouched and not any(fnmatch(path, pattern) for pattern in take_over)
        ]

    problems = [f"{path} is neither ours nor as its package has it, and would be replaced" for path in lost(there)]
    problems += [f"{path} is a site that nginx would not serve any more" for path in lost(sites)]
    allow = "; keep what you need of it elsewhere, and name it in base_take_over"
    told = "stays; its programs are restarted once, when Supervisor gets our settings"
    return [problem + allow for problem in problems], [f"{path} {told}" for path in programs]


def _below(root: Path, pattern: str) -> list[str]:
    return sorted(f"/{path.relative_to(root)}" for path in root.glob(pattern[1:]))


def _written(record: Any) -> list[str]:
    """The paths in a tree's manifest, or in the journal of one that is being written: see trees.py."""
    return list((record.get("manifest") or record).get("files", {})) if isinstance(record, dict) else []


def _untouched_conffiles(root: Path) -> set[Path]:
    """The configuration files that are as their package has brought them."""
    argv = ["dpkg-query", "--show", "--showformat=${Conffiles}\n"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    brought = (line.split()[:2] for line in told.splitlines() if line.strip())
    return {(root / path[1:]).resolve() for path, digest in brought if _md5(root / path[1:]) == digest}


def _md5(path: Path) -> str | None:
    try:
        return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    except OSError:
        return None


def has_upstream_tls(root: Path = Path("/")) -> bool:
    """Whether nginx is configured to speak TLS with app servers."""
    path = root / "etc/nginx/tls.conf"
    return path.exists() and b"\nproxy_ssl_verify on;\n" in path.read_bytes()


def lacks_http3(distribution: str, version: str) -> list[str]:
    """That the nginx of this distribution has no HTTP/3, in words."""
    major = version.partition(".")[0]
    if distribution == "Debian" and major.isdecimal() and int(major) >= HTTP3_DEBIAN:
        return []
    words = f"nginx of {distribution} {version} has no HTTP/3, Debian's has it from {HTTP3_DEBIAN} on"
    return [f"nginx_http3: True: {words}; leave it false for this host"]


def lacks_systemd(root: Path = Path("/")) -> list[str]:
    """That nothing would renew certificates on this host, in words."""
    if (root / "run/systemd/system").is_dir():
        return []
    words = "nginx_acme_directory: there is no systemd here, and nothing else renews certificates; give"
    return [f"{words} nginx_certificates, or use the fleet's own CA (tls_ca_permitted)"]


def main() -> None:
    """Run as an Ansible module."""
    lists = {"type": "list", "elements": "dict", "default": []}
    texts = {**lists, "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "ports": lists,
            "users": lists,
            "files": texts,
            "take_over": texts,
            "http3": {"type": "bool", "default": False},
            "timers": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    lost, warnings = foreign_files(wanted["files"], wanted["take_over"])
    problems = taken_ports(wanted["ports"]) + foreign_names(wanted["users"]) + lost
    if wanted["http3"]:
        problems += lacks_http3(str(get_distribution()), str(get_distribution_version()))
    if wanted["timers"]:
        problems += lacks_systemd()
    for warning in warnings:
        module.warn(warning)
    if problems:
        module.fail_json(msg="\n".join(["Nothing was changed.", *(f"- {problem}" for problem in problems)]))
    module.exit_json(changed=False, ansible_facts={"has_ipv6": has_ipv6(), "has_upstream_tls": has_upstream_tls()})


if __name__ == "__main__":
    main()
