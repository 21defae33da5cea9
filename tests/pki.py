"""Certificates and reverse proxies for tests, as an operator would have them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


def make(
    directory: Path,
    name: str = "127.0.0.1",
    *,
    authority: tuple[x509.Certificate, Key] | None = None,
    is_authority: bool = False,
    password: bytes = b"",
) -> tuple[x509.Certificate, Key]:
    """Write a certificate and its key, name.pem and name.key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer, issuer_key = (authority[0].subject, authority[1]) if authority else (subject, key)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name))])
        builder = builder.add_extension(names, critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    (directory / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    )
    return certificate, key


def files(directory: Path, name: str = "127.0.0.1") -> dict[str, Any]:
    return {"cert_file": f"{directory}/{name}.pem", "key_file": f"{directory}/{name}.key"}


NGINX = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")

_NGINX_CONFIGURATION = """
daemon off;
master_process off;
user root;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream nodes {{ {upstream} }}
  server {{
    listen {address}:{port} ssl;
    ssl_protocols TLSv1.3;
    ssl_certificate {directory}/{address}.pem;
    ssl_certificate_key {directory}/{address}.key;
    location /tunmesh/ {{
      proxy_pass https://nodes;
      proxy_ssl_protocols TLSv1.3;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $http_connection;
    }}
  }}
}}
"""


def nginx(directory: Path, address: str, port: int, upstreams: Iterable[str]) -> tuple[str, ...]:
    """The command of an nginx that ends TLS before some nodes, and gives each its turn.

    Its certificate is made before, by `make`, in the same directory.
    """
    configuration = directory / "nginx.conf"
    upstream = " ".join(f"server {target};" for target in upstreams)
    configuration.write_text(
        _NGINX_CONFIGURATION.format(
            directory=directory, address=address, port=port, upstream=upstream
        )
    )
    return (NGINX or "nginx", "-p", str(directory), "-c", str(configuration))
