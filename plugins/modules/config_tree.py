#!/usr/bin/python
"""Write a role's configuration onto a host: all of it, checked, or none."""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_tree
short_description: Write a tree of templates onto a host, checked as a whole before it takes effect
description:
  - Renders every C(*.j2) below the role's C(templates); the path below this folder is the path on the host.
  - Sends the tree in one round trip and compares it with the host. If anything differs, builds the complete new tree
    aside, runs the service's checker on it, and only then moves the files into place, one rename each.
  - An apply that was interrupted is finished by the next run. Files that it wrote earlier and that are no longer
    part of the tree are removed. Nobody else's file is touched.
  - Knows whether the service runs what is on disk. A difference is I(pending) and counts as a change, so that the
    handler runs, whatever ended the run before.
options:
  name:
    description: Names the tree and its record below C(/var/lib/flaskfleet/trees/).
    type: str
    required: true
  state:
    description:
      - V(present) writes the tree.
      - V(running) waits until the service runs the tree that is on disk, for handlers.
    type: str
    choices: [present, running]
    default: present
  each:
    description:
      - Templates that are rendered once per item. Where a path holds C({site}), the list V(site) is walked; the item's
        RV(name) replaces the word in the path, and the item is the variable C(site) in the template.
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
  check:
    description: The service's checker; C({stage}) stands for the folder that holds the new tree.
    type: list
    elements: str
    default: []
  running:
    description:
      - Where the service tells the hash of the tree it runs; C(nginx:<socket>), which answers it for C(/tree),
        C(supervisor:<socket>), whose identifier ends with it, or C(nftables:<table>), which has a chain C(tree_<hash>).
        A template puts its tree's hash anywhere with C({{ config_tree_hash }}).
      - V(handlers) where nothing tells it; the tree then counts as running when a handler with O(state=running) has
        come to its turn.
    type: str
  service:
    description: The service that reads the tree. C(fleet_state) reports a stopped one as drift.
    type: str
  timeout:
    description: Seconds to wait for O(state=running).
    type: int
    default: 20
  log:
    description: The service's log, quoted where O(state=running) fails.
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
  description: Whether the service runs something else than what is on disk.
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
    """Bring the host to the tree; in check mode only say what would be done."""
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
    """Wait for a service to run a tree; the hash of what it runs in the end."""
    if source == "handlers":
        write_json(tree.applied, wanted)
    end = time.monotonic() + timeout
    running: str | None = tree.runs(source)
    while running != wanted and time.monotonic() < end:
        time.sleep(0.1)
        running = tree.runs(source)
    return running


def last_words(service: str, log: str | None, answers: bool) -> str:
    """What a service has to say, for an error message: the end of its log, or its status where it does not answer."""
    if not answers:
        return subprocess.run(["service", service, "status"], capture_output=True, text=True, check=False).stdout
    try:
        return "\n".join(Path(log).read_text(errors="replace").splitlines()[-10:]) if log else ""
    except FileNotFoundError:
        return ""


def _await_tree(module: AnsibleModule, tree: Tree, wanted: dict[str, Any]) -> None:
    """Exit the module once the service runs the tree on disk, or fail with the service's last words."""
    manifest = read_json(tree.manifest)
    if not manifest:
        module.fail_json(msg=f"{wanted['name']}: there is no such tree on this host")
    on_disk = manifest["tree"]
    running = wait_until_running(tree, wanted["running"], on_disk, wanted["timeout"])
    if running != on_disk:
        words = last_words(wanted["name"], wanted["log"], running is not None)
        module.fail_json(
            msg=f"{wanted['name']} still runs the configuration {running or '(no answer)'}, not {on_disk}, which "
            f"is on disk. It stays pending: the next run tries again.\n{words}"
        )
    module.exit_json(changed=False, tree=on_disk, pending=False)


def _write_tree(module: AnsibleModule, tree: Tree, wanted: dict[str, Any]) -> None:
    """Exit the module once the host has the tree, or fail and leave the old one."""
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
        result["pending"] = tree.runs(wanted["running"]) != wanted["tree"]
    module.exit_json(changed=bool(changes) or changes.finished or result.get("pending", False), **result)


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name has rendered the files."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "running"], "default": "present"},
            # One text, no structure: no_log masks each of its values in results and in the journal, where modules are
            # logged with their arguments.
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
    os.umask(0o022)  # a hardened root's would lock services out of the folders that are made here
    wanted: dict[str, Any] = module.params
    tree = Tree(wanted["name"], STATE)
    run = _await_tree if wanted["state"] == "running" else _write_tree
    run(module, tree, wanted)


if __name__ == "__main__":
    main()
