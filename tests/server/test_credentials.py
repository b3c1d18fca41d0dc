"""`basic_auth` and `bearer_auth`: who is let in, what others get, and what takes the same time."""

import base64
import hmac
import types

import pytest

import scriptling_ws as ws
from calls import count_calls
from looped import looped
from scriptling_ws import runtime
from scriptling_ws._handshakes.credentials import basic_token, bearer_token
from scriptling_ws._server import credentials as _credentials
from servers import TIMEOUT, ask, head, serving, upgrade

pytestmark = pytest.mark.once("it is about what is admitted")


def asked_with(header=None, query=None):
    """A request with an Authorization header."""
    headers = {} if header is None else {"authorization": header}
    return runtime.Request("GET", "/", headers, query or {})


def basic(text, scheme="Basic"):
    data = text if isinstance(text, bytes) else text.encode()
    return f"{scheme} {base64.b64encode(data).decode()}"


USERS = {"ann": "secret", "grüße": "pässwörd:with:colons", "": "token"}


# -- Basic -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "user"),
    [
        (basic("ann:secret"), "ann"),
        (basic("ann:secret", "basic"), "ann"),
        (basic("ann:secret", "BASIC"), "ann"),
        (basic("ann:secret").replace(" ", "   "), "ann"),
        (basic("grüße:pässwörd:with:colons"), "grüße"),
        (basic(":token"), ""),
    ],
)
def test_who_is_let_in_by_a_dict(header, user):
    request = asked_with(header)
    assert ws.basic_auth(USERS)(request) is None
    assert request.state.user == user


@looped(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic YW5uOnNlY3JldA",  # without its padding
        "Basic YW5uOnNlY3JldA====",
        basic("ann:secret", "Bearer"),
        basic("ann:secret") + ", " + basic("ann:secret"),
        basic("ann"),
        basic("ann:"),
        basic("ann:Secret"),
        basic("ann:secret "),
        basic("ann:secre"),
        basic("ann:secretsecret"),
        basic("Ann:secret"),
        basic("bob:secret"),
        basic(":secret"),
        basic(b"ann:\xff"),
        basic("grüße:pässwörd:with:colons".encode("latin-1")),
    ],
)
def test_who_is_not(header):
    request = asked_with(header)
    refusal = ws.basic_auth(USERS, realm="the lab")(request)
    assert refusal.status == 401
    assert dict(refusal.headers) == {
        "WWW-Authenticate": 'Basic realm="the lab", charset="UTF-8"',
        "Cache-Control": "no-store",
    }
    assert request.state == types.SimpleNamespace()


def test_one_user_as_text():
    check = ws.basic_auth("ann:se:cret")
    assert check(asked_with(basic("ann:se:cret"))) is None
    assert check(asked_with(basic("ann:se"))).status == 401


@pytest.mark.parametrize(
    ("result", "user"), [(True, "ann"), ({"id": 7}, {"id": 7}), ("Ann B.", "Ann B.")]
)
def test_a_function_of_name_and_password(result, user):
    seen = []

    def check(name, password):
        seen.append((name, password))
        return result

    request = asked_with(basic("ann:se:cret"))
    assert ws.basic_auth(check)(request) is None
    assert request.state.user == user
    assert seen == [("ann", "se:cret")]


@pytest.mark.parametrize("result", [None, False, "", 0])
def test_a_function_that_refuses(result):
    request = asked_with(basic("ann:secret"))
    assert ws.basic_auth(lambda name, password: result)(request).status == 401
    assert request.state == types.SimpleNamespace()


def test_a_function_is_not_asked_without_credentials():
    def check(name, password):
        raise AssertionError

    for header in (None, "Basic !", basic("ann")):
        assert ws.basic_auth(check)(asked_with(header)).status == 401


@pytest.mark.parametrize(
    ("check", "error", "text"),
    [
        ({}, ValueError, "lets nobody in"),
        ({"ann": ""}, ValueError, "password is empty"),
        ({"ann": None}, TypeError, "password has to be a str"),
        ({b"ann": "x"}, TypeError, "user name has to be a str"),
        ({"a:b": "x"}, ValueError, "colon"),
        ("ann", ValueError, "user:password"),
        ("ann:", ValueError, "password is empty"),
        (5, TypeError, "a dict, 'user:password' or a function"),
        (["ann"], TypeError, "a dict, 'user:password' or a function"),
    ],
)
def test_what_cannot_be_checked_by(check, error, text):
    with pytest.raises(error, match=text) as caught:
        ws.basic_auth(check)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("realm", ['a"b', "a\\b", "a\nb", "ü", 5])
@pytest.mark.parametrize("make", [ws.basic_auth, ws.bearer_auth])
def test_a_realm_that_cannot_be_sent(make, realm):
    with pytest.raises((TypeError, ValueError), match="realm"):
        make({"a": "b"}, realm=realm)


# -- Bearer ------------------------------------------------------------------------

TOKENS = {"abc.DEF-123_~+/==": "ann", "other": {"id": 7}}


@pytest.mark.parametrize(
    ("header", "user"),
    [
        ("Bearer abc.DEF-123_~+/==", "ann"),
        ("bearer   abc.DEF-123_~+/==", "ann"),
        ("BEARER other", {"id": 7}),
    ],
)
def test_who_is_let_in_by_a_token(header, user):
    request = asked_with(header)
    assert ws.bearer_auth(TOKENS)(request) is None
    assert request.state.user == user


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (None, 'Bearer realm="x"'),
        ("", 'Bearer realm="x"'),
        ("Bearer", 'Bearer realm="x"'),
        ("Bearer a b", 'Bearer realm="x"'),
        ("Bearer other, Bearer other", 'Bearer realm="x"'),
        ("Basic other", 'Bearer realm="x"'),
        ("Bearer Other", 'Bearer realm="x", error="invalid_token"'),
        ("Bearer othe", 'Bearer realm="x", error="invalid_token"'),
        ("Bearer other=", 'Bearer realm="x", error="invalid_token"'),
    ],
)
def test_who_is_not_by_a_token(header, challenge):
    request = asked_with(header)
    refusal = ws.bearer_auth(TOKENS, realm="x")(request)
    assert (refusal.status, dict(refusal.headers)["WWW-Authenticate"]) == (401, challenge)
    assert request.state == types.SimpleNamespace()


def test_one_token_has_no_user():
    request = asked_with("Bearer only")
    assert ws.bearer_auth("only")(request) is None
    assert request.state == types.SimpleNamespace()
    assert ws.bearer_auth("only")(asked_with("Bearer one")).status == 401


def test_a_function_of_the_token():
    users = {"t": "ann"}
    check = ws.bearer_auth(lambda token: users.get(token))
    request = asked_with("Bearer t")
    assert check(request) is None
    assert request.state.user == "ann"
    assert check(asked_with("Bearer u")).status == 401


def test_a_token_in_the_query():
    check = ws.bearer_auth({"t k": "ann"}, query="access_token")
    request = asked_with(query={"access_token": "t k"})
    assert check(request) is None
    assert request.state.user == "ann"
    assert check(asked_with(query={"token": "t k"})).status == 401
    assert check(asked_with(query={"access_token": ""})).status == 401
    assert check(asked_with("Bearer other", {"access_token": "t k"})).status == 401
    assert check(asked_with("bearer", {"access_token": "t k"})).status == 401
    assert ws.bearer_auth("t")(asked_with(query={"access_token": "t"})).status == 401


@pytest.mark.parametrize("header", ["Basic YTpi", "Negotiate x", ""])
def test_a_token_in_the_query_beside_credentials_of_another_kind(header):
    """Such as those of the page, by which a proxy in front has let the browser in."""
    check = ws.bearer_auth({"t": "ann"}, query="access_token")
    request = asked_with(header, {"access_token": "t"})
    assert check(request) is None
    assert request.state.user == "ann"
    assert check(asked_with(header)).status == 401


@pytest.mark.parametrize(
    ("check", "options", "error", "text"),
    [
        ({}, {}, ValueError, "lets nobody in"),
        ("", {}, ValueError, "token is empty"),
        ({"": "ann"}, {}, ValueError, "token is empty"),
        ({"t": ""}, {}, ValueError, "lets nobody in"),
        ({"t": None}, {}, ValueError, "lets nobody in"),
        ({5: "ann"}, {}, TypeError, "token has to be a str"),
        ("a b", {}, ValueError, "cannot be sent by Bearer"),
        ("ü", {}, ValueError, "cannot be sent by Bearer"),
        (5, {}, TypeError, "a dict, a token or a function"),
        ("t", {"query": 5}, TypeError, "query has to be a str"),
    ],
)
def test_what_cannot_be_a_token(check, options, error, text):
    with pytest.raises(error, match=text):
        ws.bearer_auth(check, **options)


@pytest.mark.parametrize("header", ["", "Basic", "Bearer", "x", " ", "Basic  ", "Bearer é", "\x00"])
def test_headers_without_credentials(header):
    assert basic_token(header) in (None, b"")
    assert bearer_token(header) is None


# -- what takes the same time --------------------------------------------------------

GUESSES = ["ann:secret", "ann:xecret", "ann:secrex", "ann:s", "ann:" + "x" * 5000, "nobody:secret"]


def test_a_guess_is_compared_once_and_as_a_digest(monkeypatch):
    """Whatever it is, also for a user that there is not: no work depends on what is right."""
    compared = []
    real = hmac.compare_digest

    def compare(one, other):
        compared.append((len(one), len(other)))
        return real(one, other)

    check = ws.basic_auth(USERS)
    monkeypatch.setattr(_credentials.hmac, "compare_digest", compare)
    answers = [check(asked_with(basic(guess))) for guess in GUESSES]
    assert [answer is None for answer in answers] == [True] + [False] * 5
    assert compared == [(32, 32)] * len(GUESSES)


def test_digests_are_of_their_process():
    one, other = _credentials._Digests(), _credentials._Digests()
    assert one.of("x") == one.of("x") != other.of("x")
    assert len(one.of("\udcff")) == 32


def test_no_secret_is_kept():
    check = ws.basic_auth(USERS)
    cells = [cell.cell_contents for cell in check.__closure__]
    inner = [
        cell.cell_contents
        for function in cells
        if callable(function)
        for cell in function.__closure__ or ()
    ]
    assert "secret" not in repr(cells) + repr(inner)


@pytest.mark.parametrize("make", ["basic", "bearer"])
def test_a_wrong_guess_costs_the_same_wherever_it_is_wrong(make):
    if make == "basic":
        check = ws.basic_auth({"ann": "secret", "bob": "other"})
        wrong = [basic(guess) for guess in GUESSES[1:]]
    else:
        check = ws.bearer_auth({"secret": "ann", "other": "bob"})
        wrong = [f"Bearer {guess}" for guess in ("xecret", "secrex", "s", "x" * 5000)]
    requests = [asked_with(header) for header in wrong]
    check(requests[0])  # so that no cache is filled in what is counted
    costs = {count_calls(lambda request=request: check(request)) for request in requests}
    assert len(costs) == 1


# -- on a server -----------------------------------------------------------------------


def test_on_a_server(log):
    routes = runtime.HTTP()
    routes.websocket("/ws", lambda client: client.send({"user": client.user}))
    routes.get(
        "/api",
        lambda request: request.state.user["name"],
        authorize=ws.bearer_auth({"t0ken": {"name": "robot"}}, query="token"),
    )
    with serving(routes=routes, authorize=ws.basic_auth(USERS)) as server:
        answer = ask(server, upgrade("/ws"))
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
        headers = {"Authorization": basic("ann:secret")}
        with ws.connect(f"{server.url}/ws", TIMEOUT, headers) as conn:
            assert conn.receive(TIMEOUT) == '{"user":"ann"}'
        assert ask(server, head("/api", "Authorization: Bearer t0ken")).body == b"robot"
        assert ask(server, head("/api?token=t0ken")).body == b"robot"
        assert ask(server, head("/api", f"Authorization: {headers['Authorization']}")).status == 401
    assert not any("t0ken" in text or "secret" in text for text in log.texts())
