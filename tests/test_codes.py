"""Close codes: which a caller may send, and how they show."""

import pickle

import pytest

from looped import looped
from protocols import protocol
from scriptling_ws._codes import CloseCode, may_be_sent
from scriptling_ws._errors import ConnectionClosed, ProtocolError, Violation

pytestmark = pytest.mark.once


@pytest.mark.parametrize("code", [1000, 1001, 1003, *range(1007, 1015), 3000, 4999])
def test_codes_that_may_be_sent(code):
    assert may_be_sent(code)


@pytest.mark.parametrize("code", [0, 999, 1002, 1004, 1005, 1006, 1015, 2999, 5000])
def test_codes_that_may_not(code):
    assert not may_be_sent(code)


@looped("code", CloseCode)
def test_a_code_prints_as_its_number(code):
    number = repr(int(code))
    assert [str(code), f"{code}", f"{code:d}", "%s" % code] == [number] * 4  # noqa: UP031


def test_callers_see_plain_numbers():
    error = pickle.loads(pickle.dumps(ConnectionClosed(CloseCode.ABNORMAL)))
    assert str(error) == "the connection is closed (code 1006, no close frame)"
    codes = [error.code, ProtocolError(CloseCode.TOO_LARGE, "").code, Violation.too_large(1).code]
    assert codes == [1006, 1009, 1009]
    proto = protocol()
    proto.end()
    codes.append(proto.control.code)
    assert {type(code) for code in codes} == {int}
