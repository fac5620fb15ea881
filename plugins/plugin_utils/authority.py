"""The fleet's own CA on the controller, and the certificates that it issues to hosts.

``<inventory>/ca/ca.pem`` is its certificate, ``ca.key`` its encrypted key: playbooks/create_ca.yml makes both. A host
makes its own key and sends the public half in a request (PKCS #10, RFC 2986). Of that only the public key is taken:
which names a host may have is not the host's to say.
"""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .certificates import Unusable, is_address

LIFE = timedelta(days=90)
RENEWED_WITH_LEFT = LIFE / 3
CLOCKS_DIFFER = timedelta(minutes=10)  # a client's clock may be behind


class Authority(NamedTuple):
    """The CA: its certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def id(self) -> str:
        """The hash of its certificate, 12 hex digits."""
        return fingerprint(self.certificate)

    def issue(self, request: str, names: list[str], now: datetime, is_client: bool = False) -> str:
        """Issue a certificate for the public key of a request.

        :param request: PEM. :param names: host names, with wildcards or without, and addresses.
        :param is_client: whether the host also proves by it who it is when it asks others.
        :returns: the certificate as PEM.
        :raises Unusable: the request is not sound.
        """
        key = _requested_key(request)
        hosts = [name for name in names if not is_address(name)]
        # Without a host name among the names, OpenSSL would take the common name for one (RFC 5280, 4.2.1.6).
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64]) for name in hosts[:1]])
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if is_client else [])]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - CLOCKS_DIFFER)
            .not_valid_after(min(now + LIFE, self.certificate.not_valid_after_utc))
            .add_extension(x509.SubjectAlternativeName(list(map(general_name, names))), critical=not hosts)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(_key_identifier(self.certificate), critical=False)
        )
        algorithm = None if isinstance(self.key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        return builder.sign(self.key, algorithm).public_bytes(Encoding.PEM).decode()


def _requested_key(request: str) -> ec.EllipticCurvePublicKey:
    """The public key of a request, which proves that the host has the private one."""
    try:
        wanted = x509.load_pem_x509_csr(request.encode())
        key = wanted.public_key()
        is_sound = wanted.is_signature_valid
    except (ValueError, UnsupportedAlgorithm):
        is_sound = False
    if not is_sound or not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size < 256:
        raise Unusable("the host's request for a certificate is not sound; run again")
    return key


def _key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    with suppress(x509.ExtensionNotFound):
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]


def trusted(inventory_dir: str) -> list[str]:
    """The certificates of CAs that hosts trust: the one that issues, the one to follow it, the one before it."""
    paths = [Path(inventory_dir) / "ca" / f"{name}.pem" for name in ("ca", "next", "old")]
    return [str(path) for path in paths if path.exists()]


def load(folder: Path, passphrase: str) -> Authority:
    """The CA of a folder.

    :raises Unusable: it is not there, or can't be used.
    """
    certificate = read_certificate(folder)
    try:
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), passphrase.encode())
    except OSError as error:
        raise Unusable(f"{folder}/ca.key can't be read ({error.strerror}); put the key of the CA there") from error
    except TypeError as error:
        raise Unusable(f"{folder}/ca.key has no passphrase; encrypt it: openssl pkey -aes256") from error
    except ValueError as error:
        raise Unusable(f"{folder}/ca.key can't be decrypted; correct tls_ca_passphrase") from error
    if key.public_key() != certificate.public_key():
        raise Unusable(f"{folder}/ca.key is not the key of ca.pem; put the files of one CA there")
    return Authority(certificate, key)


def read_certificate(folder: Path) -> x509.Certificate:
    """The CA's certificate.

    :raises Unusable: it is not there, or is no certificate of a CA that is valid now.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except FileNotFoundError as error:
        raise Unusable(f"there is no {folder}/ca.pem; make a CA: playbooks/create_ca.yml") from error
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise Unusable(f"{folder}/ca.pem can't be read as a CA's certificate ({error})") from error
    if not is_ca or certificate.not_valid_after_utc < datetime.now(UTC):
        raise Unusable(f"{folder}/ca.pem is no CA's certificate, or has expired; make a CA: playbooks/create_ca.yml")
    return certificate


def fingerprint(certificate: x509.Certificate) -> str:
    """The hash of a certificate, 12 hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:12]


def general_name(name: str) -> x509.GeneralName:
    """A name or an address in the form that certificates have it."""
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name.lower())


def is_permitted(certificate: x509.Certificate, name: str) -> bool:
    """Whether the CA may issue a certificate for a name (RFC 5280, 4.2.1.10)."""
    with suppress(x509.ExtensionNotFound):
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        wanted = general_name(name)
        permitted = [one.value for one in constraints.permitted_subtrees or [] if isinstance(one, type(wanted))]
        excluded = [one.value for one in constraints.excluded_subtrees or [] if isinstance(one, type(wanted))]
        matches = [any(_lies_below(wanted.value, tree) for tree in trees) for trees in (permitted, excluded)]
        return not matches[1] and (matches[0] or not permitted)
    return True


def is_named_in(permitted: list[str], name: str) -> bool:
    """Whether a name is of the domains and networks of ``tls_ca_permitted``.

    >>> [is_named_in(["example.lan", "10.0.0.0/8"], name) for name in ("a.example.lan", "10.1.1.1", "example.org")]
    [True, True, False]
    """
    wanted = general_name(name)
    trees = [ipaddress.ip_network(one) if "/" in one else one for one in permitted]
    return any(_lies_below(wanted.value, tree) for tree in trees if isinstance(tree, str) != is_address(name))


def _lies_below(value: Any, tree: Any) -> bool:
    if isinstance(tree, str):
        domain = tree.lower().lstrip(".")
        name = str(value).removeprefix("*.")
        return not domain or name == domain or name.endswith(f".{domain}")
    return value.version == tree.version and value in tree


def is_due(issued: dict[str, Any], names: list[str], folder: str) -> bool:
    """Whether a host needs another certificate: its names or the CA are others, or a third of its life is left.

    :param issued: the record of the one that the host has, see the module ``tls_certificate``; ``{}`` for none.
    """
    if not names:
        return False
    ca, ends = read_certificate(Path(folder)), datetime.fromtimestamp(issued.get("until", 0), UTC)
    is_old = ends - datetime.now(UTC) < RENEWED_WITH_LEFT
    return (
        issued.get("names") != sorted(names)
        or issued.get("ca") != fingerprint(ca)
        # Another one would not last longer than the CA, either.
        or (is_old and ends < ca.not_valid_after_utc)
    )
