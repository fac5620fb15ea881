"""The host's half of the wheelhouse: build what a list of requirements leads to. See plugin_utils/wheelhouse.py."""

from __future__ import annotations

import os
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.builds import Built, Recipe, build
from ansible.module_utils.flaskfleet.files import unpack
from ansible.module_utils.flaskfleet.toolchain import BuildFailed
from ansible.module_utils.flaskfleet.wheels import WheelFailed, receive

DOCUMENTATION = r"""
---
module: wheel_set
short_description: Build the wheels that a list of requirements leads to
description:
  - Runs C(pip wheel) with an interpreter of the host and packs all wheels, an index's and those compiled here, into a
    tar for the controller's wheelhouse. Compiles only what has no wheel.
  - A compiler that is not there is installed for the build, and removed again.
  - Called by the action plugins of apps for the host that builds; a playbook has no need of it.
options:
  python:
    description: The interpreter.
    type: path
    required: true
  recipe:
    description: The other fields of C(Recipe) in module_utils/flaskfleet/builds.py.
    type: dict
    required: true
  index_url:
    description: An index instead of PyPI.
    type: str
    default: ""
  archive:
    description: The tar to write. Its members are C(<sha256>/<file>).
    type: path
    required: true
  further:
    description: A tar of wheels that no index has, and of a C(project.tar.gz) whose C(src) is built, too.
    type: path
author:
  - flaskfleet
"""

EXAMPLES = r"""
- name: Build Flask's wheels
  wheel_set:
    python: /usr/bin/python3
    recipe:
      requirements: flask==3.1.2
    archive: /tmp/wheels.tar
"""

RETURN = r"""
build_failed:
  description: Whether any host of the platform would fail, as opposed to this one alone.
  returned: failure
  type: bool
wheels:
  description: The file and sha256 of each wheel.
  returned: success
  type: list
  elements: dict
compiled:
  description: The names of those that were compiled on this host.
  returned: success
  type: list
  elements: str
tried:
  description: The ways that were tried, the last one with success.
  returned: success
  type: list
  elements: str
"""


def packed(recipe: Recipe, python: str, further: str | None, archive: Path) -> Built:
    """Build, and pack what came out."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:  # /tmp may be memory
        folder, given = Path(work, "wheels"), Path(work, "further")
        if further:
            unpack(Path(further), given)
        built = build(recipe, python, folder, given if further else None)
        with tarfile.open(archive, "w") as tar:
            for wheel in built.wheels:
                tar.add(folder / wheel["file"], f"{wheel['sha256']}/{wheel['file']}")
    receive(archive)  # this host needs them, too
    return built


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "path", "required": True},
            "recipe": {"type": "dict", "required": True},
            "index_url": {"type": "str", "default": "", "no_log": True},  # it may have a password
            "archive": {"type": "path", "required": True},
            "further": {"type": "path"},
        }
    )
    params: dict[str, Any] = module.params
    os.umask(0o022)  # the tar is fetched by who has logged in; its folder is theirs
    os.nice(10)  # what answers goes first
    lists = {name: tuple(params["recipe"].get(name, ())) for name in ("packages", "build_packages")}
    given = {**params["recipe"], **lists, "index_url": params["index_url"]}
    try:
        built = packed(Recipe(**given), params["python"], params["further"], Path(params["archive"]))
    except BuildFailed as error:
        module.fail_json(msg=str(error), build_failed=True)
    except (WheelFailed, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, **{**asdict(built), "tried": [str(attempt) for attempt in built.tried]})


if __name__ == "__main__":
    main()
