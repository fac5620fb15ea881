#!/usr/bin/python
"""A host's certificate of the fleet's own CA."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tls_certificate
short_description: A certificate of the fleet's own CA for a host
description:
  - The host makes a key of its own (P-256), which never leaves it. The CA on the controller issues a certificate for
    it. Both are one file below C(/etc/flaskfleet/tls), named by its hash and never edited.
  - The record C(/var/lib/flaskfleet/tls.fact) is among the host's facts, so that a run knows without asking whether a
    certificate is due. Earlier files stay until they expire, because nginx may still name one.
options:
  state:
    description: V(requested) makes a key and returns a request; V(present) takes the certificate. Set by the action.
    type: str
    choices: [requested, present]
    default: present
  names:
    description: Host names, with wildcards or without, and addresses.
    type: list
    elements: str
    default: []
  is_client:
    description: Whether the host also proves by it who it is when it asks others. It stays on the controller.
    type: bool
    default: false
  ca_folder:
    description: The folder on the controller that has C(ca.pem) and C(ca.key). It stays on the controller.
    type: path
  ca_passphrase:
    description: What the CA's key is encrypted with. It stays on the controller.
    type: str
  certificate:
    description: PEM. Set by the action.
    type: str
  ca:
    description: The hash of the CA's certificate. Set by the action.
    type: str
author: flaskfleet
"""

EXAMPLES = r"""
- name: Issue a certificate
  tls_certificate:
    names: [blog.example.lan, 10.12.28.20]
    ca_folder: "{{ inventory_dir }}/ca"
    ca_passphrase: "{{ vault_tls_ca_passphrase }}"
"""

RETURN = r"""
request:
  description: A request for a certificate (PKCS 10) as PEM.
  type: str
  returned: state is V(requested)
certificate:
  description: The record, with C(id), C(names), C(ca), and C(since) and C(until) in epoch seconds.
  type: dict
  returned: state is V(present)
"""

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.flaskfleet.certificates import openssl, read
from ansible.module_utils.flaskfleet.files import read_json, write_file, write_json

NEW_KEY = "new.key"


def request(root: Path) -> str:
    """Make a key and a request for a certificate, as PEM."""
    folder = root / "etc/flaskfleet/tls"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    key = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    write_file(folder / NEW_KEY, key.encode(), 0o600)
    made: str = openssl("req", "-new", "-key", str(folder / NEW_KEY), "-subj", "/CN=flaskfleet")
    return made


def take(certificate: str, record: dict[str, Any], root: Path) -> dict[str, Any]:
    """Keep a certificate with the key that it was issued for; its record.

    :raises ValueError: it was issued for another key.
    """
    folder, fact = root / "etc/flaskfleet/tls", root / "var/lib/flaskfleet/tls.fact"
    key = (folder / NEW_KEY).read_text()
    if openssl("x509", "-noout", "-pubkey", text=certificate) != openssl("pkey", "-pubout", text=key):
        raise ValueError("the certificate is not for the key of this host; is another run going on? Run again")
    content = f"{key}{certificate}".encode()
    before, name = (read_json(fact) or {}).get("id"), sha256(content).hexdigest()[:12]
    path = folder / f"{name}.pem"
    write_file(path, content, 0o600)
    written = {**record, "id": name, **{part: read(path)[part] for part in ("since", "until")}}
    write_json(fact, written)
    for old in folder.glob("*.pem"):  # nginx may still name one of them
        if old.stem not in (before, name) and read(old)["until"] < time.time():
            old.unlink()
    (folder / NEW_KEY).unlink()
    return written


def main() -> None:
    """Run as an Ansible module; the action plugin of the same name is between its two states."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["requested", "present"], "default": "present"},
            "names": {"type": "list", "elements": "str", "default": []},
            "certificate": {"type": "str"},
            "ca": {"type": "str"},
        }
    )
    os.umask(0o022)
    root, wanted = Path("/"), module.params
    try:
        if wanted["state"] == "requested":
            module.exit_json(changed=True, request=request(root))
        record = {"names": wanted["names"], "ca": wanted["ca"]}
        module.exit_json(changed=True, certificate=take(wanted["certificate"], record, root))
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"no certificate was taken: {error}")


if __name__ == "__main__":
    main()
