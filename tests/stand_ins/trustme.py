"""Stands in for trustme where that cannot be installed: what of it the tests use.

trustme needs cryptography, which needs cffi, which does not support the free-threaded
CPython 3.13. So another interpreter makes the certificates with the real one: that which
TRUSTME_PYTHON names. `make free-threaded` and `make pypy` put this folder on the path.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

REAL = """
import datetime, json, sys, trustme
what = json.load(sys.stdin)
if what["authority"] is None:
    made = trustme.CA()
    key = made.private_key_pem.bytes().decode()
    answer = {"cert": made.cert_pem.bytes().decode(), "key": key}
else:
    cert, key = (what["authority"][name].encode() for name in ("cert", "key"))
    end = what["not_after"] and datetime.datetime.fromisoformat(what["not_after"])
    more = {"not_after": end, "common_name": what["common_name"]}
    made = trustme.CA.from_pem(cert, key).issue_cert(*what["names"], **more)
    answer = {
        "key": made.private_key_pem.bytes().decode(),
        "chain": [blob.bytes().decode() for blob in made.cert_chain_pems],
    }
json.dump(answer, sys.stdout)
"""


def ask(authority=None, **what):
    done = subprocess.run(
        [os.environ["TRUSTME_PYTHON"], "-I", "-c", REAL],
        input=json.dumps({"authority": authority, **what}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


class Blob:
    def __init__(self, text):
        self._text = text

    def write_to_path(self, path, append=False):
        with open(path, "a" if append else "w", encoding="ascii") as file:
            file.write(self._text)


class LeafCert:
    def __init__(self, made):
        self._pem = "".join([made["key"], *made["chain"]])
        self.private_key_and_cert_chain_pem = Blob(self._pem)
        self.private_key_pem = Blob(made["key"])
        self.cert_chain_pems = [Blob(text) for text in made["chain"]]

    def configure_cert(self, context):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "leaf.pem"
            path.write_text(self._pem, encoding="ascii")
            context.load_cert_chain(path)


class CA:
    def __init__(self):
        self._made = ask()
        self.cert_pem = Blob(self._made["cert"])

    def issue_cert(self, *names, not_after=None, common_name=None):
        more = {"not_after": not_after and not_after.isoformat(), "common_name": common_name}
        return LeafCert(ask(self._made, names=names, **more))

    def configure_trust(self, context):
        context.load_verify_locations(cadata=self._made["cert"])
