"""The host's half of an app's build: run its commands on a source. See plugin_utils/built.py."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.environments import Environment, install
from ansible.module_utils.flaskfleet.files import Busy
from ansible.module_utils.flaskfleet.sandbox import CA_BUNDLE, CommandFailed, sandbox
from ansible.module_utils.flaskfleet.toolchain import PATIENCE_SECONDS, BuildFailed, toolchain
from ansible.module_utils.flaskfleet.wheels import Wheel, WheelFailed, lacking, receive

COMMAND_SECONDS = 3_600  # a command that watches files would never end

DOCUMENTATION = r"""
---
module: source_build
short_description: Run an app's build on its source
description:
  - Runs commands in a copy of the source, with the app's environment, as a user that may do nothing else on the host.
    Packs the source with what the commands made.
  - The action plugins of apps call it on the host that builds. Playbooks do not need it.
options:
  commands:
    description: The commands, run one after the other, without a shell.
    type: list
    elements: str
    required: true
  source:
    description: A tar whose C(src) is the source.
    type: path
    required: true
  python:
    description: The interpreter of the environment.
    type: path
    required: true
  platform:
    description: The platform of the wheels.
    type: str
    required: true
  wheels:
    description: The C(file) and C(sha256) of each wheel of the environment.
    type: list
    elements: dict
    required: true
  wheels_archive:
    description: A tar of the wheels. Its members are C(<sha256>/<file>).
    type: path
    required: true
  variables:
    description: Environment variables of the commands, besides those of an activated environment.
    type: dict
    default: {}
  packages:
    description: Debian packages that are installed for the build.
    type: list
    elements: str
    default: []
  keep_toolchain:
    description: Whether these packages stay installed.
    type: bool
    default: false
  archive:
    description: The tar of the built source to write.
    type: path
    required: true
author:
  - flaskfleet
"""

EXAMPLES = r"""
- name: Compile translations
  source_build:
    commands: [pybabel compile -d translations]
    source: /tmp/source.tar.gz
    python: /usr/bin/python3
    platform: debian-12-x86_64-cp311/1a2b3c4d
    wheels: []
    wheels_archive: /tmp/wheels.tar
    archive: /tmp/built.tar
"""

RETURN = r"""
said:
  description: The commands and their output, line by line.
  returned: success
  type: list
  elements: str
"""


def build(
    commands: Sequence[str], source: Path, environment: Environment, variables: Mapping[str, str],
    packages: Sequence[str], keep_toolchain: bool, archive: Path,
) -> list[str]:  # fmt: skip
    """Run commands on a source and pack the result; the lines of their output.

    :raises CommandFailed: one failed; the message has its output.
    """
    said: list[str] = []
    with toolchain(keep_toolchain) as install_packages, sandbox("build", PATIENCE_SECONDS) as box:
        install_packages(packages)
        venv = install(box, environment)
        given = box.given / "source.tar.gz"
        given.write_bytes(source.read_bytes())
        given.chmod(0o644)
        box.run(["tar", "--extract", "--gzip", f"--file={given}", "src"])
        activated = {
            "VIRTUAL_ENV": str(venv),
            "PATH": f"{venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            **({"NODE_EXTRA_CA_CERTS": str(CA_BUNDLE)} if CA_BUNDLE.exists() else {}),  # npm has its own list
            **variables,
        }
        for command in commands:
            said.append(f"$ {command}")
            said += box.run(shlex.split(command), activated, box.work / "src", COMMAND_SECONDS).splitlines()
        box.run(["mkdir", "built"])
        box.run(["tar", "--create", "--file=built/built.tar", "--directory=src", "."])
        box.take(box.work / "built", archive.with_suffix(".d"))
    archive.with_suffix(".d").joinpath("built.tar").rename(archive)
    archive.with_suffix(".d").rmdir()
    return said


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "commands": {"type": "list", "elements": "str", "required": True},
            "source": {"type": "path", "required": True},
            "python": {"type": "path", "required": True},
            "platform": {"type": "str", "required": True},
            "wheels": {"type": "list", "elements": "dict", "required": True},
            "wheels_archive": {"type": "path", "required": True},
            "variables": {"type": "dict", "default": {}},
            "packages": {"type": "list", "elements": "str", "default": []},
            "keep_toolchain": {"type": "bool", "default": False},
            "archive": {"type": "path", "required": True},
        }
    )
    params: dict[str, Any] = module.params
    os.umask(0o022)  # so that the user that Ansible logs in as can fetch the tar
    os.nice(10)  # programs that serve clients get the CPU first
    wheels = tuple(Wheel(file=wheel["file"], sha256=wheel["sha256"]) for wheel in params["wheels"])
    try:
        lacking(wheels)  # wheels that the host has are kept for another day
        receive(Path(params["wheels_archive"]))
        said = build(
            params["commands"], Path(params["source"]), Environment(params["python"], params["platform"], (), wheels),
            params["variables"], params["packages"], params["keep_toolchain"], Path(params["archive"]),
        )  # fmt: skip
    except (BuildFailed, CommandFailed, WheelFailed, OSError) as error:
        module.fail_json(msg=str(error))
    except Busy as other:
        module.fail_json(msg=f"process {other} has been building here for half an hour; end it, or wait for it")
    module.exit_json(changed=True, said=said)


if __name__ == "__main__":
    main()
