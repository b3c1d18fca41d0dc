"""The dashboard as its one command starts it: nginx, TLS, a prefix, 200 viewers and a browser."""

import contextlib
import http.client
import json
import re
import signal
import ssl

import pytest

import scriptling_ws as ws
from pages import chromium, findings, visitor
from places import REPOSITORY
from processes import Process, python_environment
from programs import find, free_port, runs_once

pytestmark = runs_once

TIMEOUT = 20
VIEWERS = 200
TOKEN = "geheim-7"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
TRUSTING = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE  # nobody vouches for the certificate


class Started:
    """The dashboard as it runs.

    Attributes:
        url: Its address, with the token.
        port: nginx's port.
    """

    def __init__(self, process, port):
        self.process, self.port = process, port
        self.url = process.line_with("https://")

    def connect(self, name, **options):
        url = f"wss://localhost:{self.port}/dashboard/{name}"
        return ws.connect(url, ssl_context=TRUSTING, timeout=TIMEOUT, **options)

    def ask(self, method, path, headers=()):
        """What comes back, with its body read."""
        client = http.client.HTTPSConnection(
            "localhost", self.port, timeout=TIMEOUT, context=TRUSTING
        )
        with contextlib.closing(client):
            client.request(method, path, headers=dict(headers))
            response = client.getresponse()
            response.body = response.read()
            return response

    def get(self, path):
        response = self.ask("GET", path)
        return response.status, response.getheader("Location"), response.body

    def control(self, **headers):
        """The control, for who sends these headers."""
        return self.connect("control", headers=headers)


@contextlib.contextmanager
def started(port):
    find("nginx")
    find("openssl")
    command = ["examples/dashboard/serve.py", "--port", port]
    environment = python_environment(DASHBOARD_TOKEN=TOKEN)
    with Process.python(*command, cwd=REPOSITORY, env=environment) as process:
        yield Started(process, port)
        process.send_signal(signal.SIGINT)
        assert process.finish()[1] == 0


@pytest.fixture(scope="module")
def dashboard():
    with started(free_port()) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


def test_a_port_that_is_in_use(dashboard):
    command = ["examples/dashboard/serve.py", "--port", dashboard.port]
    with Process.python(*command, cwd=REPOSITORY) as process:
        assert process.finish() == ([], 1)


def received(conn):
    return json.loads(conn.receive(timeout=TIMEOUT))


def test_two_hundred_viewers_miss_nothing(dashboard):
    with contextlib.ExitStack() as stack:
        viewers = [stack.enter_context(dashboard.connect("live")) for _ in range(VIEWERS)]
        for viewer in viewers:
            assert "history" in received(viewer)
        for viewer in viewers:
            numbers = [received(viewer)["n"] for _ in range(10)]
            assert numbers == list(range(numbers[0], numbers[0] + 10))
        last = received(viewers[-1])
        assert last["viewers"] == VIEWERS
        assert last["temperature"] >= 20


def test_a_new_viewer_gets_what_has_been(dashboard):
    with dashboard.connect("live") as one:
        received(one)
        before = received(one)["n"]
        with dashboard.connect("live") as other:
            history = received(other)["history"]
            assert history[-1]["n"] >= before
            assert received(other)["n"] > history[-1]["n"]


def test_the_control_wants_its_token(dashboard):
    with dashboard.connect("live") as viewer, dashboard.control(**BEARER) as control:
        granted = received(control)
        assert (granted["lowest"], granted["highest"]) == (20, 250)
        for wrong in ({"target": 251}, {"target": "100"}, {"target": float("1e999")}, {}, [1]):
            control.send(json.dumps(wrong))
            assert "error" in received(control)
        control.send({"target": 120})
        assert received(control) == {"target": 120}
        while received(viewer).get("target") != 120:
            pass


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic " + TOKEN},
        {"Cookie": "dashboard="},
        {"Cookie": "dashboard=" + TOKEN},
        {"Cookie": "dashboard=\u00e9"},
        {"Cookie": "dashboard=" + 64 * "0"},
    ],
)
def test_without_the_token_there_is_no_control(dashboard, headers):
    with pytest.raises(ws.HandshakeError) as caught:
        dashboard.control(**headers)
    assert caught.value.status == 401
    assert caught.value.headers["www-authenticate"].startswith("Bearer ")
    refused = dashboard.ask("POST", "/dashboard/unlock", headers)
    assert (refused.status, refused.getheader("Set-Cookie")) == (401, None)


def test_the_token_gives_a_cookie_that_opens_the_control(dashboard):
    unlocked = dashboard.ask("POST", "/dashboard/unlock", BEARER)
    assert unlocked.status == 204
    cookie, *more = unlocked.getheader("Set-Cookie").split("; ")
    assert sorted(more) == ["HttpOnly", "Path=/dashboard", "SameSite=Strict", "Secure"]
    assert TOKEN not in cookie
    with dashboard.control(Cookie=cookie) as control:
        assert received(control)["highest"] == 250
    # It opens the control, and gives no other cookie; a page of another site may do neither.
    assert dashboard.ask("POST", "/dashboard/unlock", {"Cookie": cookie}).status == 401
    foreign = {"Origin": "https://evil.example"}
    with pytest.raises(ws.HandshakeError) as caught:
        dashboard.control(Cookie=cookie, **foreign)
    assert caught.value.status == 403
    assert dashboard.ask("POST", "/dashboard/unlock", {**BEARER, **foreign}).status == 403


@pytest.mark.parametrize("token", ["with a blank", "geheim-\u00fc"])
def test_a_token_that_no_header_can_carry(token):
    command = ["examples/dashboard/serve.py", "--port", free_port()]
    environment = python_environment(DASHBOARD_TOKEN=token)
    with Process.python(*command, cwd=REPOSITORY, env=environment) as process:
        assert process.finish() == ([], 2)


def test_the_prefix(dashboard):
    assert dashboard.get("/dashboard") == (308, "/dashboard/", dashboard.get("/dashboard")[2])
    status, _, body = dashboard.get("/dashboard/")
    assert (status, body[:4]) == (200, b"<!--")
    assert dashboard.get("/")[0] == 404
    assert dashboard.get("/dashboard/../live")[0] == 404


@contextlib.contextmanager
def looking(browser, dashboard, url=None, **options):
    url = url or dashboard.url.partition("#")[0]
    with visitor(browser, url, ignore_https_errors=True, **options) as page:
        page.locator('#status[data-state="live"]').wait_for()
        yield page


def test_the_page_looks_on_and_sets(browser, dashboard):
    with looking(browser, dashboard) as viewer:
        viewer.locator("#temperature", has_text=re.compile(r"\d+\.\d")).wait_for()
        assert viewer.get_by_label("Target in °C").is_hidden()
        for wrong in ("wrong", "wr\u00f6ng", "wr ong", "\u20ac"):  # no header can carry the last
            viewer.get_by_label("Token").fill(wrong)
            viewer.locator("#answer").evaluate("(answer) => { answer.textContent = ''; }")
            viewer.get_by_role("button", name="Unlock").click()
            viewer.get_by_text("This is not the token.").wait_for()
        viewer.get_by_label("Token").fill(TOKEN)
        viewer.get_by_role("button", name="Unlock").click()
        slider = viewer.get_by_label("Target in °C")
        slider.fill("90")
        viewer.get_by_role("button", name="Set").click()
        viewer.get_by_text("The target is 90 °C.").wait_for()
        viewer.locator("#target", has_text="90").wait_for()
        assert TOKEN not in viewer.evaluate("JSON.stringify([sessionStorage, document.cookie])")
        viewer.reload()  # the browser has the cookie
        viewer.get_by_label("Target in °C").wait_for()
        with viewer.expect_response("**/lock"):
            viewer.get_by_role("button", name="Lock").click()
        viewer.get_by_label("Token").wait_for()
        assert viewer.context.cookies() == []


def test_the_address_that_is_printed_has_the_token(browser, dashboard):
    assert re.fullmatch(rf"https://localhost:{dashboard.port}/dashboard/#token=.+", dashboard.url)
    with looking(browser, dashboard, dashboard.url) as page:
        page.get_by_label("Target in °C").wait_for()
        assert page.url.endswith("/dashboard/")


def test_an_outage_of_the_page(browser):
    port = free_port()
    with contextlib.ExitStack() as stack:
        with started(port) as first:
            page = stack.enter_context(looking(browser, first, first.url))
            page.get_by_label("Target in °C").wait_for()
        page.locator('#status[data-state="lost"]').wait_for()
        page.get_by_label("Token").wait_for()
        with started(port):  # with another certificate, and the same token
            page.locator('#status[data-state="live"]').wait_for()
            page.get_by_label("Target in °C").fill("60")
            page.get_by_role("button", name="Set").click()
            page.locator("#target", has_text="60").wait_for()
            stack.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, dashboard, scheme):
    with looking(browser, dashboard, color_scheme=scheme) as page:
        for width in (320, 768, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            assert findings(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") == width
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Unlock").click()
        page.get_by_label("Target in °C").wait_for()
        assert findings(page) == []
