"""Options: what they may be, and what they are by default."""

import math

import pytest

from pairs import MIB
from scriptling_ws._options import Options
from scriptling_ws._terms import Terms


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"binary_type": str}, ValueError, "list or bytes"),
        ({"binary_type": "list"}, ValueError, "list or bytes"),
        ({"max_message_size": 0}, ValueError, "max_message_size"),
        ({"max_message_size": -1}, ValueError, "max_message_size"),
        ({"max_message_size": 2**63}, ValueError, "max_message_size"),
        ({"max_message_size": True}, TypeError, "max_message_size"),
        ({"max_message_size": "1"}, TypeError, "max_message_size"),
        ({"max_fragments": 0}, ValueError, "max_fragments"),
        ({"max_fragments": None}, TypeError, "max_fragments"),
        ({"send_timeout": -1}, ValueError, "send_timeout"),
        ({"send_timeout": "1"}, TypeError, "send_timeout"),
        ({"close_timeout": math.nan}, ValueError, "close_timeout"),
        ({"compression": "gzip"}, ValueError, "compression has to be 'deflate' or None"),
        ({"compression": True}, ValueError, "compression has to be 'deflate' or None"),
        ({"compression_threshold": -1}, ValueError, "at least 0"),
        ({"compression_threshold": 1.0}, TypeError, "compression_threshold"),
        ({"server_no_context_takeover": 1}, TypeError, "server_no_context_takeover"),
        ({"client_no_context_takeover": None}, TypeError, "client_no_context_takeover"),
        ({"server_max_window_bits": 8}, ValueError, "server_max_window_bits has to be from 9"),
        ({"client_max_window_bits": 16}, ValueError, "client_max_window_bits has to be from 9"),
        ({"client_max_window_bits": "9"}, TypeError, "client_max_window_bits"),
        ({"bogus": 1}, TypeError, "bogus"),
    ],
)
def test_bad_options(options, error, says):
    with pytest.raises(error, match=says):
        Options(**options)


def test_defaults():
    defaults = Options()
    assert defaults.binary_type is list
    assert defaults.max_message_size == 16 * MIB
    assert defaults.max_fragments == 16_384
    assert (defaults.send_timeout, defaults.close_timeout) == (60, 5)
    assert (defaults.compression, defaults.compression_threshold) == (None, 1024)
    assert defaults.deflate is None


def test_what_is_wanted_of_compression():
    assert Options(compression="deflate").deflate == Terms()
    options = Options(
        compression="deflate",
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=9,
        client_max_window_bits=10,
    )
    assert options.deflate == Terms(True, True, 9, 10)
