"""What the roles do, with pyinfra: the same packages, user, folders, files and services."""

import json
from pathlib import Path

from pyinfra import host
from pyinfra.operations import apt, files, server, systemd

state = json.loads(Path(host.data.state).read_text())

apt.packages(packages=state["packages"], no_recommends=True)
server.user(user=state["app"], home=f"/srv/{state['app']}", shell="/usr/sbin/nologin", ensure_home=False, system=True)
for path, attributes in state["folders"].items():
    files.directory(path=path, **attributes)
for path, attributes in state["files"].items():
    files.put(src=f"{host.data.tree}{path}", dest=path, **attributes)
for service in ("nginx", "supervisor"):
    systemd.service(service=service, running=True, enabled=True)
