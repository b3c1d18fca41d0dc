"""A certificate and its key by the names of their files, and what is wrong with them."""

import os
import ssl

import pytest

from pairs import authority
from scriptling_ws._command import certificate as _certificate
from scriptling_ws._command.certificate import load_certificate, open_to_others

try:
    from cryptography.hazmat.primitives import serialization
except ImportError:  # as on PyPy, for which there is no wheel
    serialization = None

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(serialization is None, reason="no cryptography here"),
]


@pytest.fixture
def files(tmp_path):
    """A certificate, its key, the same encrypted, both in one, and another key."""
    cert = authority().issue_cert("localhost")
    pem = cert.private_key_pem.bytes()
    key = serialization.load_pem_private_key(pem, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    chain = b"".join(blob.bytes() for blob in cert.cert_chain_pems)
    contents = {
        "cert": chain,
        "key": pem,
        "encrypted": encrypted,
        "both": pem + chain,
        "both-encrypted": encrypted + chain,
        "other": authority().issue_cert("localhost").private_key_pem.bytes(),
        "empty": b"",
        "text": b"no PEM at all",
        "broken": pem[:60] + b"!" + pem[61:],
        "broken-cert": chain[:200] + b"!!" + chain[202:],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(("cert", "key"), [("cert", "key"), ("both", None), ("both", "key")])
def test_a_certificate_and_its_key(files, cert, key):
    context = load_certificate(str(files / cert), key and str(files / key))
    assert context.protocol == ssl.PROTOCOL_TLS_SERVER
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("cert", "key", "option", "text"),
    [
        ("missing", "key", "--tls-cert", "No such file"),
        ("cert", "missing", "--tls-key", "No such file"),
        ("cert", None, "--tls-cert", "no private key in it, so name the key's file with --tls-key"),
        ("key", "key", "--tls-cert", "it has no certificate"),
        ("empty", "key", "--tls-cert", "it has no certificate"),
        ("text", None, "--tls-cert", "it has no certificate"),
        ("cert", "cert", "--tls-key", "it has no private key"),
        ("cert", "text", "--tls-key", "it has no private key"),
        ("cert", "other", "--tls-key", "the key belongs to another certificate"),
        ("cert", "broken", "--tls-key", "the key or the certificate is damaged"),
        ("broken-cert", "key", "--tls-key", "the key or the certificate is damaged"),
        ("cert", "nul\0", "--tls-key", "null"),
        (".", "key", "--tls-cert", "directory|denied"),
    ],
)
def test_what_is_wrong_is_told_of_its_file(files, cert, key, option, text):
    names = str(files / cert), key and str(files / key)
    with pytest.raises(ValueError, match=text) as caught:
        load_certificate(*names)
    assert str(caught.value).startswith(f"cannot use {option} '")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("cert", "key"), [("cert", "encrypted"), ("both-encrypted", None)])
def test_an_encrypted_key_without_a_terminal(files, cert, key, monkeypatch):
    """Nothing waits for a password that nobody can give, and the text says what to do."""
    names = str(files / cert), key and str(files / key)
    for stdin in (None, open(os.devnull)):  # noqa: SIM115 - closed by the fixture's end
        monkeypatch.setattr(_certificate.sys, "stdin", stdin)
        with pytest.raises(ValueError, match=r"is encrypted, and there is no terminal .* openssl"):
            load_certificate(*names)
        if stdin:
            stdin.close()


def test_nobody_is_asked_for_a_password_at_a_reload(files, monkeypatch):
    monkeypatch.setattr(_certificate.sys, "stdin", Terminal())
    for cert, key in (("cert", "encrypted"), ("both-encrypted", None)):
        with pytest.raises(ValueError, match="is encrypted, and a reload asks nobody"):
            load_certificate(str(files / cert), key and str(files / key), ask=False)
    assert load_certificate(str(files / "both"), None, ask=False)


class Terminal:
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("password", "text"),
    [("wrong", "the password is wrong"), ("", "the password is wrong"), ("x" * 2000, "password")],
)
def test_a_wrong_password_at_a_terminal(files, password, text, monkeypatch):
    asked = []
    monkeypatch.setattr(_certificate.sys, "stdin", Terminal())
    monkeypatch.setattr(
        _certificate.getpass, "getpass", lambda prompt: asked.append(prompt) or password
    )
    with pytest.raises(ValueError, match=text):
        load_certificate(str(files / "cert"), str(files / "encrypted"))
    assert len(asked) == 1
    assert "encrypted" in asked[0]


def test_the_right_password_at_a_terminal(files, monkeypatch):
    monkeypatch.setattr(_certificate.sys, "stdin", Terminal())
    monkeypatch.setattr(_certificate.getpass, "getpass", lambda prompt: "password")
    assert load_certificate(str(files / "cert"), str(files / "encrypted"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes of files")
@pytest.mark.parametrize(
    ("mode", "open_"),
    [(0o600, False), (0o400, False), (0o640, False), (0o644, True), (0o666, True), (0o620, True)],
)
def test_a_key_that_others_can_read_or_change(files, mode, open_):
    """A group that may read it is a usual way to give a server its key."""
    (files / "key").chmod(mode)
    assert open_to_others(str(files / "key")) is open_
