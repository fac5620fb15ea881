"""The fleet's own CA: what it issues, for whom, and how a host takes it."""

from __future__ import annotations

import ipaddress
import json
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.flaskfleet import certificates
from ansible.modules import tls_certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from plugin_utils import authority
from plugin_utils.authority import is_due, is_permitted, load
from plugin_utils.certificates import Unusable

NOW = datetime.now(UTC)
PASSPHRASE = "correct horse battery"  # pragma: allowlist secret
KEY_CERT_SIGN = 5  # the bit of a key's usage, RFC 5280, 4.2.1.3
NAMES = ["*.wiki.example.lan", "10.12.28.20", "blog.example.lan"]


def create(
    folder: Path, permitted: list[str], days: int = 3650, is_ca: bool = True, passphrase: str = PASSPHRASE
) -> None:
    """Make a CA as playbooks/create_ca.yml does."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "flaskfleet CA of prod")])
    trees: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_network(one)) if "/" in one else x509.DNSName(one) for one in permitted
    ]
    excluded = None if any("/" in one for one in permitted) else [x509.IPAddress(ipaddress.ip_network("0.0.0.0/0"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=4000))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_ca, 0 if is_ca else None), critical=True)
        .add_extension(x509.NameConstraints(trees, excluded), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.KeyUsage(*[number == KEY_CERT_SIGN for number in range(9)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    encryption: Any = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    (folder / "ca.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a CA."""
    create(tmp_path / "ca", ["example.lan", "10.12.28.0/24"])
    return tmp_path / "ca"


def take(folder: Path, host: Path, names: list[str], now: datetime = NOW) -> dict[str, Any]:
    """Issue a certificate to a host as the action does."""
    ca = load(folder, PASSPHRASE)
    certificate = ca.issue(tls_certificate.request(host), names, now)
    (host / "var/lib/flaskfleet").mkdir(parents=True, exist_ok=True)
    return tls_certificate.take(certificate, {"names": sorted(names), "ca": ca.id}, host)


def test_a_client_that_trusts_the_ca_trusts_the_host(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"etc/flaskfleet/tls/{take(folder, tmp_path, NAMES)['id']}.pem"
    (tmp_path / "leaf.pem").write_bytes(x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.PEM))
    for name in ("-verify_hostname=a.wiki.example.lan", "-verify_hostname=blog.example.lan", "-verify_ip=10.12.28.20"):
        words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", *name.split("=")]
        done = subprocess.run([*words, "-CAfile", folder / "ca.pem", tmp_path / "leaf.pem"], check=False)
        assert done.returncode == 0, name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)


def test_a_name_outside_of_the_cas_constraints_is_not_believed(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / f"etc/flaskfleet/tls/{take(folder, tmp_path, ['www.example.org'])['id']}.pem"
    words = ["openssl", "verify", "-CAfile", folder / "ca.pem", path]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert "permitted subtree violation" in done.stderr


def test_a_host_has_its_certificate_and_the_record_of_it(folder: Path, tmp_path: Path) -> None:
    record = take(folder, tmp_path, NAMES)
    (path,) = (tmp_path / "etc/flaskfleet/tls").iterdir()
    assert (path.stem, path.stat().st_mode & 0o777) == (record["id"], 0o600)
    assert json.loads((tmp_path / "var/lib/flaskfleet/tls.fact").read_text()) == record
    assert (record["names"], record["until"] - record["since"]) == (NAMES, 90 * 86400 + 600)
    assert not is_due(record, NAMES, str(folder))


def test_a_certificate_lasts_as_long_as_its_ca_at_most(tmp_path: Path) -> None:
    create(tmp_path / "ca", ["example.lan"], days=20)
    record = take(tmp_path / "ca", tmp_path, ["blog.example.lan"])
    assert record["until"] == int((NOW + timedelta(days=20)).timestamp())
    assert not is_due(record, ["blog.example.lan"], str(tmp_path / "ca"))


@pytest.mark.parametrize("names", [["10.12.28.20"], ["10.12.28.20", "blog.example.lan"], ["x" * 63 + ".example.lan"]])
def test_a_certificate_of_any_names_is_believed(folder: Path, tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / f"etc/flaskfleet/tls/{take(folder, tmp_path, names)['id']}.pem"
    assert subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", folder / "ca.pem", path]).returncode == 0


@pytest.mark.parametrize(("is_client", "code"), [(False, 2), (True, 0)])
def test_a_balancer_alone_is_a_client(folder: Path, tmp_path: Path, is_client: bool, code: int) -> None:
    ca = load(folder, PASSPHRASE)
    certificate = ca.issue(tls_certificate.request(tmp_path), NAMES, NOW, is_client)
    (tmp_path / "own.pem").write_text(certificate)
    words = ["openssl", "verify", "-purpose", "sslclient", "-CAfile", folder / "ca.pem", tmp_path / "own.pem"]
    assert subprocess.run(words, check=False).returncode == code


def test_hosts_trust_the_ca_and_those_before_and_after_it(folder: Path, tmp_path: Path) -> None:
    for name in ("next.pem", "lan.pem", "old.key"):
        (folder / name).write_text("x")
    assert authority.trusted(str(tmp_path)) == [str(folder / "ca.pem"), str(folder / "next.pem")]


@pytest.mark.parametrize("days", [31, 59])
def test_a_certificate_is_due_in_its_last_third(folder: Path, tmp_path: Path, days: int) -> None:
    record = take(folder, tmp_path, NAMES, NOW - timedelta(days=days))
    assert not is_due(record, NAMES, str(folder))
    late = take(folder, tmp_path, NAMES, NOW - timedelta(days=61))
    assert is_due(late, NAMES, str(folder))


def test_a_certificate_of_other_names_or_another_ca_is_due(folder: Path, tmp_path: Path) -> None:
    record = take(folder, tmp_path, NAMES)
    assert not is_due(record, list(reversed(NAMES)), str(folder))
    assert is_due(record, NAMES[1:], str(folder))
    assert is_due({}, NAMES, str(folder))
    assert not is_due({}, [], str(folder))
    create(folder, ["example.lan"])
    assert is_due(record, NAMES, str(folder))


def test_earlier_certificates_stay_until_they_expire(folder: Path, tmp_path: Path) -> None:
    expired, first, second = (take(folder, tmp_path, NAMES, NOW - timedelta(days=days))["id"] for days in (100, 50, 40))
    third = take(folder, tmp_path, NAMES)["id"]
    assert {path.stem for path in (tmp_path / "etc/flaskfleet/tls").iterdir()} == {first, second, third}
    assert expired not in {first, second, third}


def test_a_certificate_for_another_key_is_not_taken(folder: Path, tmp_path: Path) -> None:
    ca = load(folder, PASSPHRASE)
    certificate = ca.issue(tls_certificate.request(tmp_path), NAMES, NOW)
    tls_certificate.request(tmp_path)
    with pytest.raises(ValueError, match="not for the key of this host"):
        tls_certificate.take(certificate, {}, tmp_path)


def request_of(key: Any, names: list[str]) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), False)
    builder = builder.add_extension(x509.BasicConstraints(True, None), True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_a_host_gets_the_names_that_the_controller_says(folder: Path) -> None:
    request = request_of(ec.generate_private_key(ec.SECP256R1()), ["login.example.lan"])
    issued = x509.load_pem_x509_certificate(load(folder, PASSPHRASE).issue(request.decode(), NAMES, NOW).encode())
    names = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["*.wiki.example.lan", "blog.example.lan"]
    assert not issued.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP224R1())])
def test_a_weak_key_gets_no_certificate(folder: Path, key: Any) -> None:
    with pytest.raises(Unusable, match="request for a certificate is not sound"):
        load(folder, PASSPHRASE).issue(request_of(key, []).decode(), NAMES, NOW)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "ca.pem").unlink(), "there is no .*/ca.pem; make a CA: playbooks/create_ca.yml"),
        (lambda folder: (folder / "ca.pem").write_text("x"), "ca.pem can't be read as a CA's certificate"),
        (lambda folder: create(folder, ["lan"], days=-1), "ca.pem is no CA's certificate, or has expired"),
        (lambda folder: create(folder, ["lan"], is_ca=False), "ca.pem is no CA's certificate"),
        (lambda folder: (folder / "ca.key").unlink(), r"ca.key can't be read \(No such file"),
        (lambda folder: create(folder, ["lan"], passphrase="other"), "ca.key can't be decrypted; correct tls_ca_pass"),
        (lambda folder: create(folder, ["lan"], passphrase=""), "ca.key has no passphrase; encrypt it"),
        (
            lambda folder: (folder / "ca.key").write_bytes(
                ec.generate_private_key(ec.SECP256R1()).private_bytes(
                    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode())
                )
            ),
            "ca.key is not the key of ca.pem",
        ),
    ],
)
def test_a_ca_that_can_not_be_used_is_refused(folder: Path, change: Any, words: str) -> None:
    change(folder)
    with pytest.raises(Unusable, match=words):
        load(folder, PASSPHRASE)


@pytest.mark.parametrize(
    ("permitted", "name", "expected"),
    [
        (["example.lan"], "blog.example.lan", True),
        (["example.lan"], "*.example.lan", True),
        (["example.lan"], "Example.LAN", True),
        (["example.lan"], "notexample.lan", False),
        (["example.lan"], "10.12.28.20", False),
        (["example.lan", "10.12.28.0/24"], "10.12.28.20", True),
        (["example.lan", "10.12.28.0/24"], "10.12.29.20", False),
        (["example.lan", "10.12.28.0/24"], "fd00::1", False),
        (["example.lan", "fd00:12::/32"], "fd00:12::20", True),
        (["example.lan", "fd00:12::/32"], "fd00:13::20", False),
        (["example.lan", "fd00:12::/32"], "10.12.28.20", False),
    ],
)
def test_a_ca_may_issue_what_it_is_for(tmp_path: Path, permitted: list[str], name: str, expected: bool) -> None:
    create(tmp_path, permitted)
    assert is_permitted(authority.read_certificate(tmp_path), name) == expected


@pytest.mark.parametrize("where", ["tls/fleet.conf", "tls.conf"])
def test_a_host_tells_the_certificate_that_nginx_serves(folder: Path, tmp_path: Path, where: str) -> None:
    record = take(folder, tmp_path, NAMES)
    state = tmp_path / "var/lib/flaskfleet"
    assert certificates.served(state, tmp_path) == []
    (state / "trees/nginx").mkdir(parents=True)
    files = ["/etc/nginx/nginx.conf", "/etc/nginx/tls/fleet.conf", "/etc/nginx/tls.conf"]
    (state / "trees/nginx/manifest.json").write_text(json.dumps({"files": {file: {} for file in files}}))
    (tmp_path / "etc/nginx/tls").mkdir(parents=True)
    for file in files:
        (tmp_path / file[1:]).write_text("x")
    assert certificates.served(state, tmp_path) == []
    (tmp_path / f"etc/nginx/{where}").write_text(f"ssl_certificate /etc/flaskfleet/tls/{record['id']}.pem;")
    dates = {part: record[part] for part in ("since", "until")}
    assert certificates.served(state, tmp_path) == [{"name": "fleet", "issuer": "CN=flaskfleet CA of prod", **dates}]
