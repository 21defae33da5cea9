"""HKDF against the vectors of RFC 5869, appendix A."""

from __future__ import annotations

from tunmesh.identity import hkdf


def test_basic_case() -> None:
    root = hkdf.extract(bytes(range(13)), b"\x0b" * 22)
    assert root.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    assert hkdf.expand(root, bytes(range(0xF0, 0xFA)), 42).hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_longer_inputs_and_outputs() -> None:
    root = hkdf.extract(bytes(range(0x60, 0xB0)), bytes(range(0x50)))
    output = hkdf.expand(root, bytes(range(0xB0, 0x100)), 82)
    assert output.hex() == (
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e"
        "590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
    )
