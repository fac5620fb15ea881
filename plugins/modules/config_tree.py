#!/usr/bin/python
"""Write a config tree to a host: the whole tree, checked, or nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_tree
short_description: Write a config tree to a host, checked as a whole before it takes effect
description:
  - Renders every C(*.j2) below the role's C(templates); the path below this folder is the path on the host.
  - Sends the tree in one round trip and compares it with the host. If anything differs, stages the complete new tree,
    runs the service's checker on it, and only then moves the files into place, one rename each.
  - The next run finishes an interrupted one. Files of an earlier tree that are no longer part of it are removed. Files
    of others are never touched.
  - A tree that the service does not run yet is I(pending). It counts as a change, so that the handler runs even if an
    earlier run was interrupted before it.
options:
  name:
    description: The name of the tree and of its record below C(/var/lib/flaskfleet/trees/).
    type: str
    required: true
  state:
    description:
      - V(present) writes the tree.
      - V(running) waits until the service runs the tree on disk. It is for handlers.
    type: str
    choices: [present, running]
    default: present
  each:
    description:
      - Templates that are rendered once per item. A template whose path has C({site}) is rendered for each item of the
        list V(site). The item's RV(name) replaces C({site}) in the path; the template has the item as C(site).
    type: dict
    default: {}
  exclude:
    description: Shell patterns of paths on the host that are left out, like C(/etc/systemd/*).
    type: list
    elements: str
    default: []
  modes:
    description: Modes of paths that are not C(0644), by shell pattern.
    type: dict
    default: {}
  groups:
    description: Groups of paths that are not C(root), by shell pattern.
    type: dict
    default: {}
  check:
    description: The service's checker; C({stage}) stands for the folder that holds the new tree.
    type: list
    elements: str
    default: []
  running:
    description:
      - Where the service reports the hash of the tree that it runs. C(nginx:<socket>) answers C(/tree) with it, the
        identifier of C(supervisor:<socket>) ends with it, C(nftables:<table>) has a chain C(tree_<hash>). A template
        has the hash as C({{ config_tree_hash }}).
      - V(handlers) if the service does not report it. The tree then counts as running once a handler with
        O(state=running) has run.
    type: str
  service:
    description: The service that reads the tree. C(fleet_state) reports a stopped one as drift.
    type: str
  timeout:
    description: Seconds to wait for O(state=running).
    type: int
    default: 20
  log:
    description: The service's log, quoted if O(state=running) fails.
    type: path
author: flaskfleet
"""

EXAMPLES = r"""
- name: Configure | Render the nginx tree
  config_tree:
    name: nginx
    each: {site: "{{ nginx_sites }}"}
    check: [nginx, -t, -q, -c, "{stage}/etc/nginx/nginx.conf"]
    running: nginx:/var/lib/nginx/flaskfleet.sock
    service: nginx
  notify: nginx config changed

- name: Wait until nginx serves the new tree
  listen: nginx config changed
  config_tree:
    name: nginx
    state: running
    running: nginx:/var/lib/nginx/flaskfleet.sock
    log: /var/log/nginx/error.log
"""

RETURN = r"""
tree:
  description: The hash of the tree, 12 hex digits.
  type: str
  returned: always
pending:
  description: Whether the service runs another tree than the one on disk.
  type: bool
  returned: when O(running) is set
written:
  description: Paths that were (in check mode, would be) written.
  type: list
  elements: str
  returned: when O(state=present)
removed:
  description: Paths that were (would be) removed.
  type: list
  elements: str
  returned: when O(state=present)
"""

import json
import os
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.files import Busy, lock, read_json, write_json
from ansible.module_utils.flaskfleet.trees import Changes, CheckFailed, File, Tree

STATE = Path("/var/lib/flaskfleet/trees")


def present(
    tree: Tree,
    files: list[File],
    tree_hash: str,
    check: list[str],
    check_mode: bool,
    running: str | None = None,
    service: str | None = None,
) -> Changes:
    """Write the tree to the host; in check mode only return the changes."""
    if check_mode:
        return tree.compare(files)
    finished = tree.roll_forward()
    changes = tree.compare(files)
    changes.finished = finished
    records = {file.path: file.record for file in files}
    record = {"tree": tree_hash, "running": running, "service": service, "files": records}
    if changes:
        tree.check(files, check)
        tree.apply(record, changes)
    elif read_json(tree.manifest) != record:
        write_json(tree.manifest, record)
    return changes


def wait_until_running(tree: Tree, source: str, wanted: str, timeout: float) -> str | None:
    """Wait until a service runs a tree; the hash of the tree that it runs in the end."""
    if source == "handlers":
        write_json(tree.applied, wanted)
    end = time.monotonic() + timeout
    running: str | None = tree.running_hash(source)
    while running != wanted and time.monotonic() < end:
        time.sleep(0.1)
        running = tree.running_hash(source)
    return running


def log_end(service: str, log: str | None, answers: bool) -> str:
    """The end of a service's log for a message, or the service's status if it does not answer."""
    if not answers:
        return subprocess.run(["service", service, "status"], capture_output=True, text=True, check=False).stdout
    try:
        return "\n".join(Path(log).read_text(errors="replace").splitlines()[-10:]) if log else ""
    except FileNotFoundError:
        return ""


def _await_tree(module: AnsibleModule, tree: Tree, wanted: dict[str, Any]) -> None:
    """Exit the module once the service runs the tree on disk, or fail with the end of its log."""
    manifest = read_json(tree.manifest)
    if not manifest:
        module.fail_json(msg=f"{wanted['name']}: this host has no configuration of that name; run site.yml")
    on_disk = manifest["tree"]
    running = wait_until_running(tree, wanted["running"], on_disk, wanted["timeout"])
    if running != on_disk:
        log = log_end(manifest.get("service") or wanted["name"], wanted["log"], running is not None)
        problem = f"still runs the configuration {running}" if running else "does not answer"
        module.fail_json(
            msg=f"{wanted['name']} {problem}, and the one on disk ({on_disk}) stays pending. "
            f"Mend what {wanted['name']} says below, then run site.yml.\n{log}"
        )
    module.exit_json(changed=False, tree=on_disk, pending=False)


def _write_tree(module: AnsibleModule, tree: Tree, wanted: dict[str, Any]) -> None:
    """Exit the module once the host has the tree, or fail and keep the old one."""
    files = [File(**file) for file in json.loads(wanted["rendered"])["files"]]
    try:
        with nullcontext() if module.check_mode else lock(tree.state / "lock"):
            changes = present(
                tree, files, wanted["tree"], wanted["check"], module.check_mode, wanted["running"], wanted["service"]
            )
    except Busy as busy:
        module.fail_json(msg=f"{wanted['name']}: process {busy} is writing it right now; run again when it is done")
    except (CheckFailed, KeyError, OSError) as error:
        module.fail_json(msg=f"{wanted['name']}: {error}")
    result: dict[str, Any] = {
        "tree": wanted["tree"],
        "written": [file.path for file in changes.write],
        "removed": changes.remove,
        "diff": changes.diff,
    }
    if wanted["running"]:
        result["pending"] = tree.running_hash(wanted["running"]) != wanted["tree"]
    module.exit_json(changed=bool(changes) or changes.finished or result.get("pending", False), **result)


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name renders the files."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "running"], "default": "present"},
            # One text, no structure, because no_log masks each value of a structure wherever it occurs in the result.
            # Without no_log the host's journal would have the contents.
            "rendered": {"type": "str", "no_log": True},
            "tree": {"type": "str"},
            "check": {"type": "list", "elements": "str", "default": []},
            "running": {"type": "str"},
            "service": {"type": "str"},
            "timeout": {"type": "int", "default": 20},
            "log": {"type": "path"},
        },
        supports_check_mode=True,
    )
    os.umask(0o022)  # a stricter umask of root would lock services out of the folders that are made here
    wanted: dict[str, Any] = module.params
    tree = Tree(wanted["name"], STATE)
    run = _await_tree if wanted["state"] == "running" else _write_tree
    run(module, tree, wanted)


if __name__ == "__main__":
    main()
