#!/usr/bin/python
"""Documents the action plugin of the same name."""

DOCUMENTATION = r"""
module: preflight_command
short_description: Check the inventories and the extra variables of the command that started the run
description:
  - Runs on the controller alone.
  - Fails if an inventory does not exist, or if none has a host in C(app_servers) or C(load_balancers). Ansible itself
    only warns then, and succeeds.
  - Fails if the name of an extra variable (C(-e)) is like one that a playbook reads and not the same, unless a template
    of the inventory reads it.
options: {}
author: flaskfleet
"""

EXAMPLES = r"""
- name: Check the inventories and the extra variables
  preflight_command:
  run_once: true
"""

RETURN = r"""
{}
"""
