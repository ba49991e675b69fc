"""Whom vmcp trusts with TLS: the roots of the machine it runs on, wherever that keeps them.

The rule: what the operator names counts alone (``SSL_CERT_FILE``, ``SSL_CERT_DIR``). The OpenSSL of a frozen vmcp looks where
the machine that built it keeps its roots; where nothing is there, the places of other systems are tried, and certifi's come last.
"""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import certifi

USUAL: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Debian and Alpine, Red Hat, SUSE, newer Red Hat, the BSDs."""
NAMED: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def context() -> ssl.SSLContext:
    """For a client: TLS 1.2 or later, and peers are verified. Making one reads all roots, 50 ms: keep it."""
    made = ssl.create_default_context()
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    bundle = roots()
    if bundle is not None:
        made.load_verify_locations(cafile=bundle)
    return made


def roots(usual: tuple[str, ...] = USUAL) -> str | None:
    """The bundle to load because OpenSSL finds nothing where it looks; None where it does, or where it was told."""
    if any(os.environ.get(name) for name in NAMED) or any(_found()):
        return None
    return next((place for place in usual if Path(place).is_file()), None) or certifi.where()


def _found() -> Iterator[bool]:
    places = ssl.get_default_verify_paths()
    yield places.cafile is not None
    yield bool(places.capath) and _holds_any(Path(places.capath))


def _holds_any(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
