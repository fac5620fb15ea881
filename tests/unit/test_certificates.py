"""Certificates that clients would refuse, or nginx could not use, are refused before the first change."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from plugin_utils import certificates

NOW = datetime.now(UTC)
SOMEBODY = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Somebody's CA")])
CA = trustme.CA()
INTERMEDIATE = CA.create_child_ca()
LEAF = INTERMEDIATE.issue_cert("blog.example.lan", "*.wiki.example.lan", "10.0.0.5")
OTHER = INTERMEDIATE.issue_cert("blog.example.lan")


def pem(*certs: trustme.Blob) -> bytes:
    return b"".join(one.bytes() for one in certs)


def key_of(cert: trustme.LeafCert) -> bytes:
    return cert.private_key_pem.bytes()


CHAIN = pem(*LEAF.cert_chain_pems)


def made(key: Any = None, algorithm: Any = None, **changed: Any) -> tuple[bytes, bytes]:
    """A certificate and its key, signed by itself or, with an ``issuer``, by a key of nobody's."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "blog.example.lan")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(changed.get("issuer", subject))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=90))
    )
    if names := changed.get("names", ["blog.example.lan"]):
        builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), False)
    if usage := changed.get("usage"):
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    signer = key if changed.get("issuer", subject) == subject else ec.generate_private_key(ec.SECP256R1())
    signed = builder.sign(signer, None if changed.get("no_hash") else algorithm or hashes.SHA256())
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return signed.public_bytes(Encoding.PEM), text


Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """What is wrong with a certificate and its key, which are files on the controller."""
    root = tmp_path / "root.pem"
    root.write_bytes(CA.cert_pem.bytes())

    def run(
        certificate: bytes = CHAIN, key: bytes = key_of(LEAF), mode: int = 0o600, decrypt: Any = None, roots: Any = None
    ) -> list[str]:
        files = {"certificate": tmp_path / "lan.crt", "key": tmp_path / "lan.key"}
        for path, content in zip(files.values(), (certificate, key), strict=True):
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            path.chmod(mode)
        given = {part: str(path) for part, path in files.items()}
        trusted = [str(root)] if roots is None else roots
        found = certificates.check_certificate("lan", given, trusted, decrypt, NOW)
        return [str(problem).replace(f"{tmp_path}/", "") for problem in found]

    return run


def test_nothing_is_wrong_with_a_chain_of_a_known_root(check: Check) -> None:
    assert check() == []


def test_nothing_is_wrong_with_text_instead_of_files(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(CA.cert_pem.bytes())
    given = {"certificate": CHAIN.decode(), "key": key_of(LEAF).decode()}
    assert not list(certificates.check_certificate("lan", given, [str(tmp_path / "root.pem")], str, NOW))


def test_a_certificate_that_is_its_own_issuer_has_to_be_trusted(check: Check, tmp_path: Path) -> None:
    certificate, key = made()
    (tmp_path / "own.pem").write_bytes(certificate)
    assert check(certificate, key, roots=[str(tmp_path / "own.pem")]) == []
    (problem,) = check(certificate, key)
    assert "issued by CN=blog.example.lan, which is no known root" in problem


def test_a_chain_may_go_on_to_an_older_root(check: Check) -> None:
    """As after a cross-signature: the older root has signed the newer one."""
    root = x509.load_pem_x509_certificate(CA.cert_pem.bytes())
    old = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder().issuer_name(SOMEBODY).subject_name(root.subject).public_key(root.public_key())
    builder = (
        builder.serial_number(5).not_valid_before(root.not_valid_before_utc).not_valid_after(root.not_valid_after_utc)
    )
    crossed = builder.add_extension(x509.BasicConstraints(True, None), True).sign(old, hashes.SHA256())
    assert check(CHAIN + crossed.public_bytes(Encoding.PEM)) == []


def test_a_key_encrypted_with_ansible_vault_may_be_read_by_others(check: Check) -> None:
    assert check(key=b"$ANSIBLE_VAULT;1.1;AES256\n6162", mode=0o644, decrypt=lambda _: key_of(LEAF).decode()) == []


def password() -> bytes:
    key = serialization.load_pem_private_key(key_of(LEAF), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


def der() -> bytes:
    return x509.load_pem_x509_certificate(CHAIN).public_bytes(Encoding.DER)


def issued(**dates: datetime) -> dict[str, bytes]:
    cert = INTERMEDIATE.issue_cert("blog.example.lan", **dates)
    return {"certificate": pem(*cert.cert_chain_pems), "key": key_of(cert)}


def both(pair: tuple[bytes, bytes]) -> dict[str, bytes]:
    return dict(zip(("certificate", "key"), pair, strict=True))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"key": key_of(OTHER)}, "key: 'lan.key' is not the key of the certificate; give"),
        (
            {"certificate": pem(*reversed(LEAF.cert_chain_pems))},
            r"certificate: 'lan.crt' is out of order: .* is not issued by .*, which follows it; put",
        ),
        (issued(not_after=NOW - timedelta(days=2)), r"'lan.crt' has expired on 20\d\d-\d\d-\d\d \(.*; renew"),
        (
            issued(not_before=NOW + timedelta(days=2)),
            r"certificate: 'lan.crt' is not valid before 20\d\d-\d\d-\d\d \d\d:\d\d UTC \(.*; wait, or set the clock",
        ),
        (
            {"certificate": LEAF.cert_chain_pems[0].bytes()},
            "certificate: 'lan.crt' ends with .*, issued by .*, which is no known root; append the intermediate",
        ),
        ({"roots": []}, "certificate: 'lan.crt' ends with .* or name your CA's root in base_ca_certificates"),
        ({"mode": 0o644}, r"key: 'lan.key' is open to others on the controller \(mode 0644\); chmod 600"),
        ({"certificate": CHAIN.replace(b"\n", b"\r\n")}, "certificate: 'lan.crt' has line ends of Windows"),
        ({"key": key_of(LEAF).replace(b"\n", b"\r\n")}, "key: 'lan.key' has line ends of Windows; remove them"),
        ({"certificate": der()}, "certificate: 'lan.crt' is no PEM; convert DER with openssl x509"),
        ({"key": password()}, "key: 'lan.key' has a password, which nobody could enter when nginx starts; remove it"),
        ({"key": CHAIN}, r"key: 'lan.key' can't be read as a private key \(.*\); give the key"),
        ({"certificate": key_of(LEAF)}, r"certificate: 'lan.crt' has no certificate that can be read \(.*\); give"),
        ({"certificate": b""}, "certificate: 'lan.crt' is no PEM"),
        (both(made(rsa.generate_private_key(65537, 1024))), "has a key of 1024 bits .*, 2048 are the least"),
        (both(made(ec.generate_private_key(ec.SECP224R1()))), "has a key that browsers don't take .*; make one"),
        (both(made(ed25519.Ed25519PrivateKey.generate(), no_hash=True)), "has a key that browsers don't take"),
        ({"certificate": CHAIN + pem(*OTHER.cert_chain_pems)}, "is out of order|which is no CA"),
        ({"certificate": b"$ANSIBLE_VAULT;1.1;AES256\n6162"}, "is encrypted with ansible-vault; only the key may be"),
        ({"certificate": b"\xef\xbb\xbf" + CHAIN}, "begins with a byte order mark"),
        (both(made(names=[])), "has no subjectAltName, where clients look for names; have it issued anew"),
        (both(made(usage=ExtendedKeyUsageOID.CLIENT_AUTH)), r"is not for servers \(extended key usage\)"),
        (both(made(issuer=SOMEBODY)), "issued by CN=Somebody's CA, which is no known root; append"),
    ],
)  # fmt: skip
def test_a_certificate_that_can_not_be_used_is_refused(check: Check, given: dict[str, Any], words: str) -> None:
    (problem,) = check(**given)
    assert problem.startswith("nginx_certificates.lan.")
    assert re.search(words, problem), problem


# openssl req -x509 -newkey rsa:512 and -sha1: what cryptography makes no more.
WEAK = Path(__file__).parent / "certificates"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rsa512", "certificate: 'lan.crt' has a key (of 512 bits|that nobody takes) .*make one anew"),
        ("sha1", "certificate: 'lan.crt' is signed with SHA1 .*have it issued anew"),
    ],
)
def test_a_weak_certificate_is_refused(check: Check, name: str, words: str) -> None:
    (problem,) = check((WEAK / f"{name}.pem").read_bytes())
    assert re.search(words, problem), problem


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    given = {"certificate": str(tmp_path / "no.crt"), "key": str(tmp_path / "no.key")}
    (problem,) = certificates.check_certificate("lan", given, [], str)
    assert str(problem) == (
        f"nginx_certificates.lan.certificate: '{tmp_path}/no.crt' can't be read on the controller "
        "(No such file or directory); correct the path"
    )


def test_no_key_is_in_a_message(tmp_path: Path) -> None:
    given = {"certificate": CHAIN.decode(), "key": key_of(OTHER).decode()}
    (tmp_path / "root.pem").write_bytes(CA.cert_pem.bytes())
    (problem,) = certificates.check_certificate("lan", given, [str(tmp_path / "root.pem")], str)
    assert str(problem).startswith("nginx_certificates.lan.key: is not the key of the certificate")
