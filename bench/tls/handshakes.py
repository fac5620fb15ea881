"""Opens connections one after the other, in the container: ``handshakes.py <port> <name> <number> full|resumed``.

``openssl s_time`` names no host in its handshake, and nginx refuses that.
"""

import select
import socket
import ssl
import sys

port, name, number, kind = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.minimum_version = ssl.TLSVersion.TLSv1_3


def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
    """The session for the next connection, and whether this one was resumed."""
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname=name, session=session) as secure,
    ):
        select.select([secure], [], [])  # in TLS 1.3 it comes after the handshake
        secure.setblocking(False)
        try:
            secure.recv(1)
        except ssl.SSLWantReadError:
            return secure.session, bool(secure.session_reused)
    raise ConnectionError("nginx has closed the connection")


session = connect(None)[0] if kind == "resumed" else None
for _ in range(number):
    found, is_resumed = connect(session)
    if is_resumed != (kind == "resumed"):
        sys.exit(f"a handshake on port {port} was not {kind}")
    session = found if kind == "resumed" else None
