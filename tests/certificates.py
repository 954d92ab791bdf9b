"""Certificates for tests, made with the openssl command."""

from __future__ import annotations

import subprocess
from pathlib import Path

PASSWORD = "open sesame"


def make_certificates(directory: Path) -> Path:
    """Makes ``ca.pem``, of it ``server`` and ``client`` (``.pem``, ``.key``), ``encrypted.key``, and ``other.pem``.

    The server's is for localhost and 127.0.0.1; ``encrypted.key`` is its key under ``PASSWORD``; ``other.pem`` and
    ``other.key`` are of an authority that has signed nothing.
    """

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other"):
        subject = ("-days", "2", "-subj", f"/CN=test {name}")
        openssl("req", "-x509", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.pem", *subject)
    for name in ("server", "client"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    openssl("pkey", "-in", "server.key", "-aes256", "-passout", f"pass:{PASSWORD}", "-out", "encrypted.key")
    return directory
