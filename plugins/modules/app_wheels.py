#!/usr/bin/python
"""Build the wheels of an app for a host's platform."""

from __future__ import annotations

DOCUMENTATION = r"""
module: app_wheels
short_description: Build the wheels of an app for a host's platform
description:
  - The host builds the wheel sets that the wheelhouse lacks for its platform. The hashes of all wheels are checked.
    Returns the files that a controller without access to an index needs.
options:
  app:
    description: One entry of C(flask_apps) with its defaults (filter C(complete_apps)).
    type: dict
    required: true
  wheels:
    description: See M(flask_app).
    type: dict
    required: true
author: flaskfleet
"""

EXAMPLES = r"""
- name: Build wheels
  app_wheels:
    app: "{{ (flask_apps | complete_apps).blog }}"
    wheels: "{{ flask_app_wheels }}"
"""

RETURN = r"""
platform:
  description: The platform of the host's interpreter, like C(debian-12-x86_64-cp311/1a2b3c4d).
  type: str
  returned: always
bundle:
  description:
    - The files that a controller without access to an index needs for the app and the platform, as paths below the
      project. See C(make bundle).
  type: list
  elements: path
  returned: always
needs:
  description: The wheel sets that are missing. The action plugin builds them and runs the module again.
  type: dict
  returned: if something is missing
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.host_module import FAILURES
from ansible.module_utils.flaskfleet.uploads import Result, Wanted
from ansible.module_utils.flaskfleet.wheels import platform_of


def run(wanted: Wanted) -> Result:
    """The module's result: the wheel sets that the controller lacks for this platform."""
    platform = platform_of(wanted["python"])
    unknown = [name for name, wheel_set in wanted["wheels"].items() if platform not in wheel_set["known"]]
    needs = {"needs": {"platform": platform, "sets": unknown, "wheels": [], "archive": False}} if unknown else {}
    return {"changed": False, "platform": platform, **needs}


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name reads the wheelhouse."""
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "wheels": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params)
    except FAILURES as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
