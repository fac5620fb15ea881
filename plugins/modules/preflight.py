#!/usr/bin/python
"""Documents the action plugin of the same name."""

DOCUMENTATION = r"""
module: preflight
short_description: Check every variable of every role for every host of the run, before anything changes
description:
  - Runs on the controller alone. Reads which host gets which roles from the playbooks themselves.
  - Checks types, required values and unknown options (C(meta/argument_specs.yml)), ranges and forms
    (C(meta/constraints.yml)), unknown variables that bear a role's prefix, and what spans roles and the controller's
    disk, like two apps that claim one server name, or a source that does not exist.
  - Fails with all problems at once, each with the variable, its value and what to do.
options:
  playbooks:
    description: The playbooks whose roles are checked, relative to the project.
    type: list
    elements: str
    required: true
  certificates:
    description: Whether the certificates of C(nginx_certificates) and the fleet's own CA are checked, too.
    type: bool
    default: false
  sources:
    description: Whether the apps' sources are fetched and checked, too.
    type: bool
    default: true
author: flaskfleet
"""

EXAMPLES = r"""
- name: Check the inventory
  preflight:
    playbooks: [playbooks/app_servers.yml]
  run_once: true
  register: checked
"""

RETURN = r"""
claims:
  description: By host, the ports and users that must be free, or ours. For M(preflight_host).
  type: dict
  returned: success
"""
