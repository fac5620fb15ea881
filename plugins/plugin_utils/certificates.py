"""What is wrong with a certificate, and which names it covers.

``nginx_certificates`` has them by name, each with ``certificate``, the server's own and behind it those that lead to
its CA's root, and ``key``. Both are PEM (RFC 7468), as text or as a path on the controller.
"""

from __future__ import annotations

import ipaddress
import warnings
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import certifi
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from .variable_checks import HIDDEN, Problem

PEM = "-----BEGIN"
VAULT = b"$ANSIBLE_VAULT"
WEAK_HASHES = (hashes.MD5, hashes.SHA1)
# CA/Browser Forum, Baseline Requirements, 6.1.5
LEAST_RSA_BITS = 2048
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
Decrypt = Callable[[str], str]


class Unusable(Exception):
    """What is wrong with a certificate or a key, and what to do, in words."""


def check_certificate(
    name: str, given: dict[str, str], roots: list[str], decrypt: Decrypt, now: datetime | None = None
) -> Iterator[Problem]:
    """What is wrong with one certificate.

    :param roots: PEM files of further CAs that clients trust, besides the public ones.
    """
    for part in ("certificate", "key"):
        try:
            if part == "certificate":
                chain = _load(_text(given[part]))
                _check_chain(chain, roots, now or datetime.now(UTC))
            else:
                _check_key(_load_key(_key_text(given[part], decrypt)), chain)
        except Unusable as problem:
            shown = HIDDEN if given[part].startswith(PEM) else given[part]
            yield Problem(f"nginx_certificates.{name}.{part}", shown, str(problem))
            return


def _text(value: str) -> str:
    """The PEM text of a value that is one, or a path."""
    return _check_text(value.encode() if value.startswith(PEM) else _read(value))


def _key_text(value: str, decrypt: Decrypt) -> str:
    if value.startswith(PEM):
        return _text(value)
    if _read(value).startswith(VAULT):
        return _check_text(decrypt(value).encode())
    mode = Path(value).expanduser().stat().st_mode & 0o777
    if mode & 0o077:
        words = f"is open to others on the controller (mode {mode:04o})"
        raise Unusable(f"{words}; chmod 600, or encrypt it with ansible-vault")
    return _text(value)


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise Unusable(f"can't be read on the controller ({error.strerror}); correct the path") from error


def _check_text(content: bytes) -> str:
    if content.startswith(VAULT):
        raise Unusable("is encrypted with ansible-vault; only the key may be. Give the certificate as it is")
    if PEM.encode() not in content:
        words = "is no PEM; convert DER with openssl x509 or pkey and -inform der, PKCS #12 with openssl pkcs12"
        raise Unusable(words)
    if content.startswith(BOM_UTF8):
        raise Unusable("begins with a byte order mark; save it as UTF-8 without one")
    if b"\r" in content:
        raise Unusable("has line ends of Windows; remove them: sed -i 's/\\r$//'")
    return content.decode(errors="replace")


def _load(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise Unusable(
            f"has no certificate that can be read ({error}); give the server's own, and its chain"
        ) from error


def _load_key(text: str) -> Any:
    try:
        return serialization.load_pem_private_key(text.encode(), None)
    except TypeError as error:
        words = "has a password, which nobody could enter when nginx starts; remove it with openssl pkey"
        raise Unusable(f"{words}, and encrypt the file with ansible-vault") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable(f"can't be read as a private key ({error}); give the key of the certificate") from error


def _check_key(key: Any, chain: list[x509.Certificate]) -> None:
    fits = [_public(key.public_key()) == _public(one.public_key()) for one in chain]
    if not any(fits):
        raise Unusable("is not the key of the certificate; give the one that the certificate was asked for with")
    if not fits[0]:
        raise Unusable("is the key of a later certificate of the file; put the server's own first, its chain behind it")


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded


def _check_chain(chain: list[x509.Certificate], roots: list[str], now: datetime) -> None:
    for one in chain:
        if one.not_valid_after_utc < now:
            raise Unusable(f"has expired on {one.not_valid_after_utc:%Y-%m-%d} ({_subject(one)}); renew it")
        if one.not_valid_before_utc > now:
            words = f"is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M} UTC ({_subject(one)})"
            raise Unusable(f"{words}; wait, or set the clock that is wrong")
        _check_strength(one)
        _check_signature(one)
    for one, issuer in pairwise(chain):
        if not _is_issued_by(one, issuer):
            words = f"is out of order: {_subject(one)} is not issued by {_subject(issuer)}, which follows it"
            raise Unusable(f"{words}; put the server's own first, then the one that has issued it, and so on")
        if not _is_ca(issuer):
            words = f"has {_subject(issuer)} in its chain, which is no CA"
            raise Unusable(f"{words}; put only what leads to the root behind it")
    if not _names(chain[0]):
        raise Unusable("has no subjectAltName, where clients look for names; have it issued anew")
    if not _is_for_servers(chain[0]):
        raise Unusable("is not for servers (extended key usage); have it issued anew")
    if not _leads_to_a_root(chain, roots):
        last = chain[-1]
        words = f"ends with {_subject(last)}, issued by {last.issuer.rfc4514_string()}, which is no known root"
        raise Unusable(f"{words}; append the intermediate certificate, or name your CA's root in base_ca_certificates")


def _leads_to_a_root(chain: list[x509.Certificate], roots: list[str]) -> bool:
    """Whether a certificate of the chain is a known root, or issued by one. What follows it is for old clients."""
    known = list(_trusted(roots))
    return any(
        one in known or any(_is_issued_by(one, root) for root in known if root.subject == one.issuer) for one in chain
    )


def _check_strength(one: x509.Certificate) -> None:
    try:
        key = one.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Unusable(f"has a key that nobody takes ({error}; {_subject(one)}); make one anew") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES):
        return
    if not isinstance(key, rsa.RSAPublicKey):
        raise Unusable(f"has a key that browsers don't take ({_subject(one)}); make one of P-256, P-384 or RSA")
    if key.key_size < LEAST_RSA_BITS:
        words = f"has a key of {key.key_size} bits ({_subject(one)}), {LEAST_RSA_BITS} are the least"
        raise Unusable(f"{words}; make one anew")


def _check_signature(one: x509.Certificate) -> None:
    if one.subject != one.issuer and isinstance(one.signature_hash_algorithm, WEAK_HASHES):
        words = f"is signed with {one.signature_hash_algorithm.name.upper()} ({_subject(one)}), which no client takes"
        raise Unusable(f"{words}; have it issued anew")


def _is_issued_by(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_ca(one: x509.Certificate) -> bool:
    with suppress(x509.ExtensionNotFound):
        return one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    return False


def _is_for_servers(one: x509.Certificate) -> bool:
    with suppress(x509.ExtensionNotFound):
        usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage
    return True


def _trusted(roots: list[str]) -> Iterator[x509.Certificate]:
    for path in (*roots, certifi.where()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some roots are older than today's rules
            yield from _load(_text(path))


def _names(one: x509.Certificate) -> set[str]:
    """The names and addresses that a certificate covers, names in lower case."""
    with suppress(x509.ExtensionNotFound):
        found = one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = {name.lower() for name in found.get_values_for_type(x509.DNSName) if not is_address(name)}
        return names | {str(address) for address in found.get_values_for_type(x509.IPAddress)}
    return set()


def read_names(value: str) -> set[str]:
    """The names that a certificate covers; the value is PEM text or a path."""
    return _names(_load(_text(value))[0])


def covers(covered: set[str], server_name: str) -> bool:
    """As clients compare them (RFC 9525, 6.3): a wildcard stands for one label.

    >>> covers({"*.example.lan"}, "blog.example.lan"), covers({"*.example.lan"}, "a.blog.example.lan")
    (True, False)
    """
    wanted = server_name.lower()
    return wanted in covered or (not is_address(wanted) and f"*.{wanted.partition('.')[2]}" in covered)


def is_address(name: str) -> bool:
    """Whether a server name is an address."""
    with suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _subject(one: x509.Certificate) -> str:
    return one.subject.rfc4514_string() or ", ".join(sorted(_names(one)))
