#!/usr/bin/python
"""Check that a load balancer cuts no app server off when it begins to speak TLS with them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_upstreams
short_description: Check that app servers take TLS from a load balancer
description:
  - Runs on a load balancer. Asks each app server with the load balancer's certificate, as its nginx is going to, and
    changes nothing. The request names no host, so that no app gets it.
  - Fails if an app server takes a connection by http and no request by TLS, because it would get no more requests. One
    that takes neither is down, and loses nothing.
  - A drained app server counts, because others answer in its place at its undrain.
  - Skipped in check mode, in which app servers are not configured first.
options:
  servers:
    description: >-
      The app servers, each with C(name), and address and port of http (C(address)) and of TLS (C(secure_address)).
    type: list
    elements: dict
    required: true
  server_name:
    description: The name that an app server proves to have.
    type: str
    required: true
  certificate:
    description: The load balancer's certificate and its key, one file.
    type: path
    required: true
  ca:
    description: The certificates of CAs that vouch for app servers, PEM.
    type: str
    required: true
author: flaskfleet
"""

EXAMPLES = r"""
- name: Check that app servers take TLS
  tls_upstreams:
    servers: [{name: app1, address: "10.12.28.27:80", secure_address: "10.12.28.27:443"}]
    server_name: app-servers.flaskfleet.internal
    certificate: /etc/flaskfleet/tls/0123456789ab.pem
    ca: "{{ lookup('ansible.builtin.file', 'ca/ca.pem') }}"
"""

RETURN = r"""
msg:
  description: The app servers that would be cut off, and why.
  type: str
  returned: failure
"""

import socket
import ssl
from contextlib import suppress
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ANSWER_SECONDS = 5  # a server that takes longer does not answer
REQUEST = b"HEAD / HTTP/1.0\r\n\r\n"


def cut_off(servers: list[dict[str, Any]], context: ssl.SSLContext, server_name: str) -> list[str]:
    """The app servers that take a connection by http and no request by TLS, in words."""
    found = []
    for server in servers:
        if _takes_connections(server["address"]) and (
            problem := refusal(server["secure_address"], context, server_name)
        ):
            found.append(f"{server['name']} ({server['secure_address']}: {problem})")
    return found


def refusal(address: str, context: ssl.SSLContext, server_name: str) -> str:
    """Why a server and this host don't take each other's certificates, in words; empty if they do.

    nginx answers 400 to a certificate that it does not take. Otherwise it closes or resets the connection of a request
    for no host (https://nginx.org/en/docs/http/ngx_http_core_module.html#reset_timedout_connection).
    """
    try:
        with _connect(address) as plain, context.wrap_socket(plain, server_hostname=server_name) as secure:
            secure.sendall(REQUEST)
            with suppress(ConnectionResetError):
                return secure.recv(100).decode(errors="replace").partition("\r\n")[0]
            return ""
    except OSError as error:
        return str(error)


def _takes_connections(address: str) -> bool:
    try:
        _connect(address).close()
    except OSError:
        return False
    return True


def _connect(address: str) -> socket.socket:
    """A connection to an address and port; an IPv6 address is in brackets."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS)


def make_context(certificate: str, ca: str) -> ssl.SSLContext:
    """TLS as the load balancer's nginx speaks it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=ca)
    context.load_cert_chain(certificate)
    return context


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "servers": {"type": "list", "elements": "dict", "required": True},
            "server_name": {"type": "str", "required": True},
            "certificate": {"type": "path", "required": True},
            "ca": {"type": "str", "required": True},
        }
    )
    wanted = module.params
    found = cut_off(wanted["servers"], make_context(wanted["certificate"], wanted["ca"]), wanted["server_name"])
    if found:
        module.fail_json(
            msg="nginx_upstream_tls: True would cut off app servers that answer by http and not yet by TLS: "
            f"{', '.join(found)}. The nginx of this load balancer was not changed. Run site.yml for them first, or "
            "for all hosts (no --limit)"
        )
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
