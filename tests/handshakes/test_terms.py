"""The negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1)."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from looped import looped
from scriptling_ws._handshakes.terms import DeflateOffer, Terms, agree, parse_extensions

pytestmark = pytest.mark.once

DEFLATE = "permessage-deflate"

# A few of each parameter: what a caller may want, and what a peer may say.
WANTED = [
    Terms(*values) for values in itertools.product([False, True], [False, True], [9, 15], [10, 15])
]
OFFERS = [
    "; ".join([DEFLATE, *filter(None, parts)])
    for parts in itertools.product(
        ["", "server_no_context_takeover"],
        ["", "client_no_context_takeover"],
        ["", "server_max_window_bits=9", "server_max_window_bits=15"],
        ["", "client_max_window_bits", "client_max_window_bits=8", "client_max_window_bits=15"],
    )
]


def answered(answer, **wanted):
    """The terms after a server's answer to an offer."""
    offer = DeflateOffer(Terms(**wanted))
    offer.finalize(answer)
    return offer.terms


# -- the header ------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "extensions"),
    [
        ("", []),
        (" , ,", []),
        ("a", [("a", [])]),
        ("a;b", [("a", [("b", None)])]),
        (" a ; b = c;d\t,,e;f=1 ", [("a", [("b", "c"), ("d", None)]), ("e", [("f", "1")])]),
        ('a;b="x, y; z\\"=", c', [("a", [("b", 'x, y; z"=')]), ("c", [])]),
        ('a; b=""', [("a", [("b", "")])]),
        ('a; b = "c" ; d="\\e\\\\"', [("a", [("b", "c"), ("d", "e\\")])]),
    ],
)
def test_extensions(header, extensions):
    assert parse_extensions(header) == extensions


@pytest.mark.parametrize(
    "header",
    [";", "a;", "a;;b", "a=1", "a b", "a;b=", "a;=1", "a;b=1 2", 'a;b="', 'a;b="\\', "é", "a,;b"],
)
def test_malformed_extensions(header):
    with pytest.raises(ValueError, match="malformed at character"):
        parse_extensions(header)
    assert agree(f"{DEFLATE}, {header}", Terms()) is None


@pytest.mark.abuse(14)
@pytest.mark.parametrize(
    "header",
    [
        'a="' + "\\a" * 20_000,
        'a;b="' + "\\a" * 20_000,
        "b" + " " * 40_000 + "x",
        "b;" + "c" * 40_000 + "\t" * 40_000 + "/",
        "," * 40_000 + ";",
        "a;b=c;" * 20_000,
    ],
)
def test_a_malformed_header_takes_linear_time(header):
    # A machine that is busy takes some milliseconds; what is quadratic takes seconds.
    assert min(timed(header) for _ in range(3)) < 0.5


def timed(header):
    start = time.process_time()
    assert agree(header, Terms()) is None
    return time.process_time() - start


# -- the server --------------------------------------------------------------


@looped(
    ("offer", "wanted", "answer"),
    [
        ("", {}, ""),
        ("client_max_window_bits", {}, ""),
        ("client_max_window_bits=12", {}, "client_max_window_bits=12"),
        ("client_max_window_bits=8", {}, "client_max_window_bits=8"),
        ("client_max_window_bits", {"client_max_window_bits": 10}, "client_max_window_bits=10"),
        ("client_max_window_bits=9", {"client_max_window_bits": 10}, "client_max_window_bits=9"),
        # The client does not know the parameter, so its window cannot be chosen.
        ("", {"client_max_window_bits": 10}, ""),
        ("server_max_window_bits=10", {}, "server_max_window_bits=10"),
        ("server_max_window_bits=15", {}, "server_max_window_bits=15"),
        ("server_max_window_bits=11", {"server_max_window_bits": 9}, "server_max_window_bits=9"),
        ("", {"server_max_window_bits": 9}, "server_max_window_bits=9"),
        ("server_no_context_takeover", {}, "server_no_context_takeover"),
        ("", {"server_no_context_takeover": True}, "server_no_context_takeover"),
        ("client_no_context_takeover", {}, "client_no_context_takeover"),
        ("", {"client_no_context_takeover": True}, "client_no_context_takeover"),
    ],
)
def test_the_server_answers(offer, wanted, answer):
    text, _ = agree("; ".join(filter(None, [DEFLATE, offer])), Terms(**wanted))
    assert text == "; ".join(filter(None, [DEFLATE, answer]))


def test_the_terms_of_an_answer():
    offer = (
        f"{DEFLATE}; server_no_context_takeover; server_max_window_bits=11; client_max_window_bits"
    )
    answer, terms = agree(offer, Terms(client_max_window_bits=9))
    assert terms == Terms(True, False, 11, 9)
    assert terms.of(client=False) == (11, False)
    assert terms.of(client=True) == (9, True)
    assert answer == (
        f"{DEFLATE}; server_no_context_takeover; server_max_window_bits=11; "
        "client_max_window_bits=9"
    )


BAD_PARAMETERS = [
    "x",
    "x=1",
    "server_no_context_takeover=1",
    'client_no_context_takeover=""',
    "server_no_context_takeover; server_no_context_takeover",
    "client_max_window_bits=10; client_max_window_bits=10",
    "server_max_window_bits",
    'server_max_window_bits=""',
    'server_max_window_bits="7"',
    'client_max_window_bits="16"',
    'client_max_window_bits=" 10"',
    'client_max_window_bits="10, 11"',
    'client_max_window_bits="\\"10\\""',
    'server_no_context_takeover="1"',
    *(
        f"{end}_max_window_bits={value}"
        for end in ("server", "client")
        for value in ("7", "16", "08", "015", "+9", "-9", "0", "9.0", "15x", "abc", "1e1")
    ),
]


@pytest.mark.abuse(13, 27)
@looped("parameters", BAD_PARAMETERS)
def test_the_server_declines_what_is_not_valid(parameters):
    assert agree(f"{DEFLATE}; {parameters}", Terms()) is None
    # The next offer is as good.
    answer, _ = agree(f"{DEFLATE}; {parameters}, x-other, {DEFLATE}", Terms())
    assert answer == DEFLATE


# The values of a peer that writes each parameter as RFC 6455 section 9.1 also allows.
QUOTED = ['"10"', '"1\\0"', '"\\1\\0"']


@pytest.mark.parametrize("value", QUOTED)
def test_a_quoted_value_means_the_same(value):
    offer = f"{DEFLATE}; server_max_window_bits={value}; client_max_window_bits={value}"
    answer, terms = agree(offer, Terms())
    assert terms == Terms(False, False, 10, 10)
    assert answer == f"{DEFLATE}; server_max_window_bits=10; client_max_window_bits=10"
    assert answered(offer) == Terms(False, False, 10, 10)


def test_the_server_declines_a_window_that_zlib_cannot_compress_in():
    small = f"{DEFLATE}; server_max_window_bits=8"
    assert agree(small, Terms()) is None
    answer, _ = agree(f"{small}, {DEFLATE}; server_max_window_bits=9", Terms())
    assert answer == f"{DEFLATE}; server_max_window_bits=9"


def test_the_server_takes_the_first_of_several_offers():
    header = f"{DEFLATE}; server_no_context_takeover, {DEFLATE}, {DEFLATE}; x"
    assert agree(header, Terms())[0] == f"{DEFLATE}; server_no_context_takeover"


@pytest.mark.parametrize(
    "header", ["", "x", "x-webkit-deflate-frame", 'x;y=", permessage-deflate"']
)
def test_the_server_takes_nothing_else(header):
    assert agree(header, Terms()) is None


@given(st.text(alphabet=st.sampled_from(list(' \t,;="\\\u00e9abcx_015')) | st.characters()))
def test_no_header_breaks_the_server(text):
    for header in (text, f"{DEFLATE};{text}"):
        agreed = agree(header, Terms())
        if agreed is not None:
            answered(agreed[0])


# -- the client --------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "offer"),
    [
        ({}, "client_max_window_bits"),
        ({"client_max_window_bits": 9}, "client_max_window_bits=9"),
        ({"server_max_window_bits": 9}, "server_max_window_bits=9; client_max_window_bits"),
        (
            {"server_no_context_takeover": True},
            "server_no_context_takeover; client_max_window_bits",
        ),
        (
            {"client_no_context_takeover": True},
            "client_no_context_takeover; client_max_window_bits",
        ),
    ],
)
def test_the_client_offers(wanted, offer):
    assert DeflateOffer(Terms(**wanted)).offer() == offer


def test_wsproto_is_told_of_no_extension():
    offer = DeflateOffer(Terms())
    offer.finalize(DEFLATE)
    assert not offer.enabled()


@pytest.mark.parametrize(
    ("answer", "wanted", "terms"),
    [
        ("", {}, (False, False, 15, 15)),
        ("server_no_context_takeover", {}, (True, False, 15, 15)),
        ("client_no_context_takeover", {}, (False, True, 15, 15)),
        ("", {"client_no_context_takeover": True}, (False, True, 15, 15)),
        ("server_max_window_bits=8", {}, (False, False, 8, 15)),
        ("server_max_window_bits=10", {"server_max_window_bits": 10}, (False, False, 10, 15)),
        ("client_max_window_bits=8", {}, (False, False, 15, 8)),
        ("", {"client_max_window_bits": 10}, (False, False, 15, 10)),
        ("client_max_window_bits=9", {"client_max_window_bits": 10}, (False, False, 15, 9)),
    ],
)
def test_the_client_takes_the_answer(answer, wanted, terms):
    assert answered("; ".join(filter(None, [DEFLATE, answer])), **wanted) == Terms(*terms)


@pytest.mark.abuse(27)
@looped("parameters", [*BAD_PARAMETERS, "client_max_window_bits"])
def test_the_client_refuses_what_is_not_valid(parameters):
    with pytest.raises(ValueError, match=r"unknown|twice|invalid"):
        answered(f"{DEFLATE}; {parameters}")


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("", {"server_no_context_takeover": True}),
        ("; client_no_context_takeover", {"server_no_context_takeover": True}),
        ("", {"server_max_window_bits": 10}),
        ("; server_max_window_bits=11", {"server_max_window_bits": 10}),
        ("; client_max_window_bits=11", {"client_max_window_bits": 10}),
    ],
)
def test_the_client_refuses_what_it_has_not_asked_for(answer, wanted):
    with pytest.raises(ValueError, match=r"asked for|offered"):
        answered(DEFLATE + answer, **wanted)


def test_the_client_refuses_a_second_answer():
    offer = DeflateOffer(Terms())
    offer.finalize(DEFLATE)
    with pytest.raises(ValueError, match="twice"):
        offer.finalize(DEFLATE)


# -- both, and a trusted other one ---------------------------------------------


@looped("wanted", WANTED)
def test_client_and_server_come_to_the_same_terms(wanted):
    for server_wants in WANTED:
        offer = DeflateOffer(wanted)
        answer, terms = agree(f"{DEFLATE}; {offer.offer()}", server_wants)
        offer.finalize(answer)
        assert offer.terms == terms


def parameters_of(header):
    ((_, parameters),) = parse_extensions(header)
    return parameters


def terms_of(extension, client):
    """The terms of an extension of websockets, whose sides are called local and remote."""
    ends = ("local", "remote") if not client else ("remote", "local")
    resets = [getattr(extension, f"{end}_no_context_takeover") for end in ends]
    bits = [getattr(extension, f"{end}_max_window_bits") for end in ends]
    return Terms(*resets, *bits)


@looped("offer", OFFERS)
def test_websockets_as_a_server_agrees(offer):
    pmd = pytest.importorskip("websockets.extensions.permessage_deflate")
    factory = pmd.ServerPerMessageDeflateFactory()
    theirs, extension = factory.process_request_params(parameters_of(offer), [])
    _, terms = agree(offer, Terms())
    assert terms_of(extension, client=False) == terms
    assert theirs is not None


# It refuses to compress in a window of 2**8 bytes before it asks.
@looped("offer", [offer for offer in OFFERS if not offer.endswith("=8")])
def test_websockets_as_a_client_takes_our_answers(offer):
    pmd = pytest.importorskip("websockets.extensions.permessage_deflate")
    given = dict(parameters_of(offer))
    known = "client_max_window_bits" in given
    bits = given.get("client_max_window_bits")
    factory = pmd.ClientPerMessageDeflateFactory(
        "server_no_context_takeover" in given,
        "client_no_context_takeover" in given,
        int(given["server_max_window_bits"]) if "server_max_window_bits" in given else None,
        int(bits) if bits else known or None,
    )
    for wanted in WANTED:
        answer, terms = agree(offer, wanted)
        extension = factory.process_response_params(parameters_of(answer), [])
        assert terms_of(extension, client=True) == terms
