#!/usr/bin/env python3
"""Has of Debian what this machine can reach, as a mirror over TLS and as a proxy: mirror.py ADDRESS PORT PORT FOLDER.

The folder has its key.pem and certificate.pem.
"""

from __future__ import annotations

import shutil
import ssl
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

MIRRORED = "http://deb.debian.org"


class Passing(BaseHTTPRequestHandler):
    """Answers with what Debian has: a client of a proxy asks for a whole url, one of a mirror for its path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = self.path if urlsplit(self.path).netloc else MIRRORED + self.path
        if not (urlsplit(url).hostname or "").endswith(".debian.org"):
            return self.send_error(403)
        try:
            with urllib.request.urlopen(url) as answer:
                self.send_response(200)
                for name in ("Content-Length", "Last-Modified"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                self.close_connection = "Content-Length" not in answer.headers
                self.end_headers()
                shutil.copyfileobj(answer, self.wfile)
        except urllib.error.HTTPError as error:
            self.send_error(error.code)


if __name__ == "__main__":
    address, mirror_port, proxy_port, folder = sys.argv[1:]
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{folder}/certificate.pem", f"{folder}/key.pem")
    mirror = ThreadingHTTPServer((address, int(mirror_port)), Passing)
    # A client's handshake is its own thread's business.
    mirror.socket = tls.wrap_socket(mirror.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=mirror.serve_forever).start()
    ThreadingHTTPServer((address, int(proxy_port)), Passing).serve_forever()
