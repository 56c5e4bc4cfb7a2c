"""Pictures with content credentials (C2PA), signed by a camera whose maker is made up for the test."""

from __future__ import annotations

import datetime
import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hostile import picture
from PIL import Image

SOURCES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@dataclass(frozen=True)
class Maker:
    """The certificate of the maker in PEM, the camera's chain, and its key."""

    root: bytes
    chain: bytes
    key: bytes


@cache
def maker() -> Maker:
    """A maker's certificate and a camera's under it, good for a month."""
    now = datetime.datetime.now(datetime.UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Maker"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
        )
        for common in ("root", "camera 7")
    ]

    def certificate(number: int, *extensions: tuple[x509.ExtensionType, bool]) -> bytes:
        made = (
            x509.CertificateBuilder().subject_name(names[number]).issuer_name(names[0])
            .public_key(keys[number].public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[number].public_key()), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), False)
        )  # fmt: skip
        for extension, critical in extensions:
            made = made.add_extension(extension, critical)
        return made.sign(keys[0], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def usage(signs: bool) -> x509.KeyUsage:
        return x509.KeyUsage(signs, False, False, False, False, not signs, not signs, False, False)

    root = certificate(0, (x509.BasicConstraints(True, None), True), (usage(False), True))
    camera = certificate(
        1, (x509.BasicConstraints(False, None), True), (usage(True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    )  # fmt: skip
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Maker(root, camera + root, key)


def sign(
    path: Path, source: str = "digitalCapture", kind: str = "image/jpeg", data: bytes | None = None, remote: str = ""
) -> Path:
    """Writes the bytes (a small JPEG where there are none) with credentials: created, from `source` (IPTC); at the
    address `remote` instead of in the file, where there is one."""
    if data is None:
        plain = io.BytesIO()
        Image.fromarray(picture(160, 120)).save(plain, "JPEG")
        data = plain.getvalue()
    info = c2pa.C2paSignerInfo(b"es256", maker().chain, maker().key, None)
    created = {"action": "c2pa.created", "digitalSourceType": SOURCES + source}
    manifest = {
        "claim_generator_info": [{"name": "test camera", "version": "1"}],
        "title": path.name,
        "format": kind,
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [created]}}],
    }
    out = io.BytesIO()
    builder = c2pa.Builder(json.dumps(manifest))
    if remote:
        builder.set_no_embed()
        builder.set_remote_url(remote)
    builder.sign(c2pa.Signer.from_info(info), kind, io.BytesIO(data), out)
    path.write_bytes(out.getvalue())
    return path
