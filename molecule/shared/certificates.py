"""A CA in a folder, and certificates of it: ``certificates.py <folder> <name>=<name or address>,… …``.

``ca.pem`` is made once; ``<name>.pem`` has a certificate with its chain, ``<name>.key`` its key.
"""

from __future__ import annotations

import sys
from pathlib import Path

import trustme


def issue(folder: Path, name: str, *identities: str) -> trustme.LeafCert:
    """Issue a certificate; one of that name is replaced, as at a renewal."""
    cert = _authority(folder).issue_cert(*identities)
    key = folder / f"{name}.key"
    key.touch(0o600)
    key.write_bytes(cert.private_key_pem.bytes())
    (folder / f"{name}.pem").write_bytes(b"".join(one.bytes() for one in cert.cert_chain_pems))
    return cert


def _authority(folder: Path) -> trustme.CA:
    certificate, key = folder / "ca.pem", folder / "ca.key"
    if not key.exists():
        folder.mkdir(parents=True, exist_ok=True)
        ca = trustme.CA()
        certificate.write_bytes(ca.cert_pem.bytes())
        key.touch(0o600)
        key.write_bytes(ca.private_key_pem.bytes())
    return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        name, _, identities = wanted.partition("=")
        issue(Path(sys.argv[1]), name, *identities.split(","))
