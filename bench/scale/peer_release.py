"""A release of the app, with pyinfra: its files, the link to it, and a restart of its program if either changed."""

from io import StringIO

from pyinfra import host
from pyinfra.operations import files, server

release = f"{host.data.home}/{host.data.release}"
code = files.sync(src=host.data.source, dest=release)
link = files.link(path=f"{host.data.home}/current", target=release)
program = files.put(src=StringIO(host.data.program), dest="/etc/supervisor/conf.d/peer.conf")
server.shell(
    commands=["supervisorctl update peer", "supervisorctl restart peer"],
    _if=lambda: code.did_change() or link.did_change() or program.did_change(),
)
