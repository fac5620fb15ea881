"""A release of the app, with pyinfra: its files, the link to it, and a restart of its program if either changed."""

from io import StringIO

from pyinfra import host
from pyinfra.operations import files, server

release = f"{host.data.home}/{host.data.release}"
code = files.sync(src=host.data.source, dest=release)
link = files.link(path=f"{host.data.home}/current", target=release)
program = files.put(src=StringIO(host.data.program), dest="/etc/supervisor/conf.d/peer.conf")
# `update` starts a program that it changed, and a restart while it starts may fail.
server.shell(commands=["supervisorctl update peer"], _if=program.did_change)
server.shell(
    commands=["supervisorctl restart peer"],
    _if=lambda: (code.did_change() or link.did_change()) and not program.did_change(),
)
