"""The certificate that this node shows, and what it asks of those of others."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import os
import ssl
from collections.abc import Iterable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tunmesh.plugin import TransportError
from tunmesh_transport_https.options import Options

_LIFETIME = dt.timedelta(days=30)
#: A self-made certificate is replaced when it has this long to go.
_RENEWED = dt.timedelta(days=10)
#: Clocks differ: a certificate is valid from before it was made.
_SKEW = dt.timedelta(days=1)
_PIN_BYTES = 16
#: Certificates shown before the current one whose tokens are still accepted.
_KEPT = 1


def digest(certificate: bytes) -> str:
    """What binds a token to a certificate (DER): its SHA-256 in base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()


def pin(certificate: bytes) -> str:
    """The pin of a certificate (DER), which outlives its renewal with the same key.

    Raises:
        ValueError: It is no certificate.
    """
    key = x509.load_der_x509_certificate(certificate).public_key()
    info = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return base64.urlsafe_b64encode(hashlib.sha256(info).digest()[:_PIN_BYTES])[:22].decode()


class Certificates:
    """What this node shows to those who dial it.

    Args:
        options: The transport's.

    Attributes:
        context: For servers; a new object after each renewal.
        pin: To announce.
        digests: Of the certificates that peers may have seen.

    Raises:
        TransportError: A file cannot be used.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._shown: list[str] = []
        self._expires = dt.datetime.max.replace(tzinfo=dt.UTC)
        self.context: ssl.SSLContext
        self.pin = ""
        self.digests: frozenset[str] = frozenset()
        self._state = self._files_state()
        self._load()

    def renew(self) -> bool:
        """Take new files, or make a new certificate, if it is time; whether that was so.

        Raises:
            TransportError: A file changed and cannot be used; what was there before remains.
        """
        state = self._files_state()
        due = dt.datetime.now(dt.UTC) > self._expires - _RENEWED
        if state == self._state and not due:
            return False
        self._state = state
        self._load()
        return True

    def _load(self) -> None:
        options = self._options
        if options.cert_file:
            context = _server_context()
            try:
                context.load_cert_chain(options.cert_file, options.key_file or None, password="")
                certificate = _certificates(options.cert_file)[0]
            except (OSError, ValueError, IndexError) as exc:
                raise TransportError(
                    f"cannot use the certificate {options.cert_file}: {_reason(exc)} "
                    "(plugins.https.cert_file, key_file)"
                ) from exc
        else:
            context, certificate = self._self_made()
        external: list[bytes] = []
        if options.external_cert_file:
            try:
                external = _certificates(options.external_cert_file)
            except (OSError, ValueError) as exc:
                raise TransportError(
                    f"cannot use {options.external_cert_file}: {_reason(exc)} "
                    "(plugins.https.external_cert_file)"
                ) from exc
        self.context = context
        self.pin = pin(certificate)
        self._shown = [digest(certificate), *self._shown][: 1 + _KEPT]
        self.digests = frozenset([*self._shown, *map(digest, external)])

    def _self_made(self) -> tuple[ssl.SSLContext, bytes]:
        now = dt.datetime.now(dt.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tunmesh")])
        self._expires = now + _LIFETIME
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(self._expires)
            .sign(self._key, hashes.SHA256())
        )
        key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        context = _server_context()
        memory = os.memfd_create("tunmesh-certificate")  # the key never reaches a disk
        try:
            os.write(memory, key + certificate.public_bytes(serialization.Encoding.PEM))
            context.load_cert_chain(f"/proc/self/fd/{memory}")
        finally:
            os.close(memory)
        return context, certificate.public_bytes(serialization.Encoding.DER)

    def _files_state(self) -> tuple[tuple[int, int, int] | None, ...]:
        options = self._options
        return tuple(
            map(_file_state, (options.cert_file, options.key_file, options.external_cert_file))
        )


def client_context(options: Options) -> ssl.SSLContext:
    """How this node looks at the certificates of those whom it dials.

    By default at nothing: the token that is bound to the certificate, and the pin, do more.

    Raises:
        TransportError: The authorities cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = options.verify_hostname
    if not options.verify_hostname and not options.ca_file:
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        if options.ca_file:
            context.load_verify_locations(options.ca_file)
        else:
            context.load_default_certs()
    except OSError as exc:
        raise TransportError(
            f"cannot use the authorities {options.ca_file}: {_reason(exc)} (plugins.https.ca_file)"
        ) from exc
    return context


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # streams live long: nobody resumes
    return context


def _certificates(path: str) -> list[bytes]:
    """The certificates of a PEM file, as DER."""
    found: Iterable[x509.Certificate] = x509.load_pem_x509_certificates(Path(path).read_bytes())
    return [certificate.public_bytes(serialization.Encoding.DER) for certificate in found]


def _file_state(path: str) -> tuple[int, int, int] | None:
    """What changes when a file does; None if it cannot be read now."""
    if not path:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - the path is not used otherwise
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).lower()
