#!/usr/bin/python
"""What a host's records say that it should be, held against what it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_state
short_description: What runs on a host, and what differs from what was written there
description:
  - Only looks. Reads the records below C(/var/lib/flaskfleet), also of apps that are no longer in the inventory, and
    asks Supervisor.
author: flaskfleet
"""

EXAMPLES = r"""
- name: Look
  fleet_state:
  register: state
"""

RETURN = r"""
apps:
  description: >-
    Per app what is C(live), C(since) when, by whom (C(by), C(what), C(source)), its C(programs), the releases
    C(on_disk), a C(rollout) that goes on, and what was C(edited).
  type: list
  elements: dict
  returned: success
drift:
  description: Files of configuration that are not as they were written, in words.
  type: list
  elements: str
  returned: success
now:
  description: The host's time in epoch seconds.
  type: int
  returned: success
"""

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.releases import App
from ansible.module_utils.flaskfleet.services import supervisor
from ansible.module_utils.flaskfleet.trees import Tree

STATE = Path("/var/lib/flaskfleet")


def look(state: Path, rpc: Any, root: Path = Path("/")) -> dict[str, Any]:
    """The module's result."""
    trees = sorted(path.parent.name for path in state.glob("trees/*/manifest.json"))
    apps = sorted(path.stem for path in state.glob("apps/*.json"))
    return {
        "apps": [App(name, "", rpc, root).report() for name in apps if (root / "srv" / name / "current").is_symlink()],
        "now": int(time.time()),
        "drift": [words for name in trees for words in Tree(name, state / "trees", root).edited()],
    }


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        module.exit_json(changed=False, **look(STATE, supervisor("/run/supervisor.sock")))
    except OSError as error:
        module.fail_json(msg=f"{error}; is Supervisor running?")


if __name__ == "__main__":
    main()
