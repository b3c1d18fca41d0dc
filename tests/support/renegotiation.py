"""A TLS 1.2 client that can ask for renegotiation without end, which OpenSSL's own does not do.

Its records are sealed here (RFC 5246 sections 6.2.3.3 and 6.3, RFC 5288), with the keys of a
handshake that OpenSSL has done.
"""

import hmac
import os
import ssl
import struct
import tempfile
from pathlib import Path

import pytest

try:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:  # as on PyPy, for which there is no wheel
    AESGCM = None

needs_cryptography = pytest.mark.skipif(AESGCM is None, reason="no cryptography here")

_HANDSHAKE = 22  # a record's type
_HELLO_REQUEST = b"\0\0\0\0"
_BATCH = 500


def _prf(secret, seed, size):
    """P_SHA256 (RFC 5246 section 5)."""
    a, out = seed, b""
    while len(out) < size:
        a = hmac.digest(secret, a, "sha256")
        out += hmac.digest(secret, a + seed, "sha256")
    return out[:size]


class Renegotiating:
    """The client's side of a TLS 1.2 session over a connected socket, for floods and for data."""

    def __init__(self, sock):
        """Do the handshake; the socket blocks."""
        self._sock = sock
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "keys")
            context.keylog_filename = str(log)
            answer = self._shake(context)
            (line,) = (x for x in log.read_text().splitlines() if x.startswith("CLIENT_RANDOM"))
        client_random, master = (bytes.fromhex(part) for part in line.split()[1:])
        server_random = answer[11:43]  # behind the headers of record and handshake, and a version
        keys = _prf(master, b"key expansion" + server_random + client_random, 40)
        self._cipher, self._salt = AESGCM(keys[:16]), keys[32:36]
        self._count = 1  # the first was Finished

    def _shake(self, context):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing)
        received = b""
        while True:
            try:
                session.do_handshake()
            except ssl.SSLWantReadError:
                self._sock.sendall(outgoing.read())
                data = self._sock.recv(65536)
                received += data
                incoming.write(data)
            else:
                self._sock.sendall(outgoing.read())
                return received

    def _seal(self, kind, data):
        number = struct.pack("!Q", self._count)
        self._count += 1
        head = number + struct.pack("!BHH", kind, 0x0303, len(data))
        sealed = number + self._cipher.encrypt(self._salt + number, data, head)
        return struct.pack("!BHH", kind, 0x0303, len(sealed)) + sealed

    def send(self, data):
        """Send data, in one record."""
        self._sock.sendall(self._seal(23, data))

    def record(self):
        """The type of the next record that comes."""
        head = self._receive(5)
        self._receive(int.from_bytes(head[3:], "big"))
        return head[0]

    def _receive(self, size):
        data = b""
        while len(data) < size:
            piece = self._sock.recv(size - len(data))
            assert piece, "the stream ended"
            data += piece
        return data

    def ask(self, times=_BATCH):
        """Ask for renegotiation so often; how many bytes that took."""
        hello = b"\x01\0\0\x29\x03\x03" + os.urandom(32) + b"\0\0\x02\xc0\x2b\x01\0"
        records = b"".join(self._seal(_HANDSHAKE, hello) for _ in range(times))
        self._sock.sendall(records)
        return len(records)


def hello_requests(size):
    """About so many bytes of HelloRequest, which a client in its handshake passes over."""
    body = _HELLO_REQUEST * 4000
    record = struct.pack("!BHH", _HANDSHAKE, 0x0303, len(body)) + body
    return record * (size // len(record))
