"""What the programs of test_gevent.py and test_greenlets.py have in common."""

import pytest

from pairs import authority


@pytest.fixture
def certificates(tmp_path):
    """The files of a certificate and its authority, for programs that run over TCP and over TLS."""
    chain, trusted = tmp_path / "chain.pem", tmp_path / "authority.pem"
    authority().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(chain)
    authority().cert_pem.write_to_path(trusted)
    return chain, trusted
