"""Certificates: self-made, the operator's, and what is asked of those of others."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.pki import files, make
from tests.transport_https.nodes import started, until
from tunmesh.plugin import EndpointError, TransportError
from tunmesh_transport_https.certificates import Certificates, client_context, digest, pin
from tunmesh_transport_https.options import Options


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def test_a_self_made_certificate_is_new_for_each_node_and_keeps_its_pin() -> None:
    one, other = Certificates(Options()), Certificates(Options())
    assert one.pin != other.pin
    assert not one.digests & other.digests
    assert not one.renew()
    before, shown = one.pin, one.digests
    one._expires = dt.datetime.now(dt.UTC) + dt.timedelta(days=9)
    assert one.renew()
    assert one.pin == before, "the key is the same"
    assert one.digests > shown, "tokens under way stay good"
    assert not one.renew()
    one._expires = dt.datetime.now(dt.UTC)
    assert one.renew()
    assert not one.digests & shown


def test_contexts_speak_tls_1_3_only() -> None:
    for context in (Certificates(Options()).context, client_context(Options())):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_the_operators_certificate_is_shown_and_pinned(tmp_path: Path) -> None:
    certificate, _ = make(tmp_path)
    certificates = Certificates(Options(**files(tmp_path)))
    assert certificates.pin == pin(der(certificate))
    assert certificates.digests == {digest(der(certificate))}


def test_key_and_chain_may_be_in_one_file(tmp_path: Path) -> None:
    make(tmp_path)
    both = tmp_path / "both.pem"
    both.write_text(
        (tmp_path / "127.0.0.1.key").read_text() + (tmp_path / "127.0.0.1.pem").read_text()
    )
    assert Certificates(Options(cert_file=str(both))).pin


def test_external_certificates_are_accepted_in_tokens_but_not_shown(tmp_path: Path) -> None:
    certificate, _ = make(tmp_path)
    external = f"{tmp_path}/127.0.0.1.pem"
    certificates = Certificates(Options(external_cert_file=external))
    assert digest(der(certificate)) in certificates.digests
    assert len(certificates.digests) == 2
    assert certificates.pin != pin(der(certificate))


@pytest.mark.parametrize("option", ["cert_file", "external_cert_file", "ca_file"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, option: str) -> None:
    path = tmp_path / "nonsense.pem"
    for content in (None, "nonsense"):
        if content:
            path.write_text(content)
        with pytest.raises(TransportError, match=rf"{path}: .* \(plugins\.https\.{option}"):
            client_context(Options(ca_file=str(path))) if option == "ca_file" else Certificates(
                msgspec.convert({option: str(path)}, Options)
            )


def test_an_encrypted_key_is_refused_instead_of_asked_about(tmp_path: Path) -> None:
    make(tmp_path, password=b"secret")
    with pytest.raises(TransportError, match="cannot use the certificate"):
        Certificates(Options(**files(tmp_path)))


async def test_a_certificate_that_changes_is_taken_while_streams_live_on(tmp_path: Path) -> None:
    make(tmp_path)
    async with started({"options": files(tmp_path)}, {}) as (node, member):
        there = member.path_to(node)
        await member.answered_by(node, there)
        before = node.endpoint
        (tmp_path / "127.0.0.1.pem").write_text("half writ")
        with pytest.raises(TransportError):
            node.transport._certificates.renew()
        certificate, _ = make(tmp_path)
        await until(lambda: node.endpoint != before)
        assert node.endpoint.endswith(f"#{pin(der(certificate))}")
        assert node.inbound.changes == 1
        await member.answered_by(node, there)
        assert node.counts["accepted"] == 1
        await member.answered_by(node, member.path_to(node))
        assert node.counts["accepted"] == 2


async def test_names_and_authorities_are_checked_if_asked_for(tmp_path: Path) -> None:
    authority = make(tmp_path, "authority", is_authority=True)
    make(tmp_path, "127.0.0.1", authority=authority)
    make(tmp_path, "127.0.0.9", authority=authority)
    ca_file = f"{tmp_path}/authority.pem"
    async with started(
        {"options": files(tmp_path)},
        {"options": files(tmp_path, "127.0.0.9")},
        {},
        {"options": {"ca_file": ca_file, "verify_hostname": True}},
        {"options": {"ca_file": ca_file}},
        {"options": {"verify_hostname": True}},
    ) as (right, wrong_name, self_made, strict, signed, public):
        assert await strict.transport.resolve(right.url)
        assert await signed.transport.resolve(right.url)
        assert await signed.transport.resolve(wrong_name.url)
        with pytest.raises(EndpointError, match="IP address mismatch"):
            await strict.transport.resolve(wrong_name.url)
        for client in (strict, signed, public):
            with pytest.raises(EndpointError, match="self-signed"):
                await client.transport.resolve(self_made.url)
        with pytest.raises(EndpointError, match="unable to get local issuer"):
            await public.transport.resolve(right.url)
