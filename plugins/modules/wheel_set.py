"""The host's half of the wheelhouse: build a wheel set. See plugin_utils/wheelhouse.py."""

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
  - Runs C(pip wheel) with an interpreter of the host. Packs all wheels, downloaded and compiled ones, into a tar for
    the controller's wheelhouse. Compiles only what has no wheel.
  - A missing compiler is installed for the build and removed after it.
  - The action plugins of apps call it on the host that builds. Playbooks do not need it.
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
    description: A tar of wheels that no index has, and of a C(project.tar.gz) whose C(src) is to be built.
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
  description: Whether every host of the platform would fail, not only this one.
  returned: failure
  type: bool
wheels:
  description: The file and sha256 of each wheel.
  returned: success
  type: list
  elements: dict
compiled:
  description: The names of the projects that were compiled on this host.
  returned: success
  type: list
  elements: str
tried:
  description: The attempts. The last one succeeded.
  returned: success
  type: list
  elements: str
"""


def packed(recipe: Recipe, python: str, further: str | None, archive: Path) -> Built:
    """Build the wheels and pack them."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:  # /tmp may be in memory
        folder, given = Path(work, "wheels"), Path(work, "further")
        if further:
            unpack(Path(further), given)
        built = build(recipe, python, folder, given if further else None)
        with tarfile.open(archive, "w") as tar:
            for wheel in built.wheels:
                tar.add(folder / wheel["file"], f"{wheel['sha256']}/{wheel['file']}")
    receive(archive)  # the host itself needs the wheels, too
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
    os.umask(0o022)  # so that the user that Ansible logs in as can fetch the tar
    os.nice(10)  # programs that serve clients get the CPU first
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
