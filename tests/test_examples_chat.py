"""The chat's page in a real browser: two people and a program, and the outage in between."""

import contextlib
import json
import re
import signal

import pytest

from chatting import CHAT, chatting, person
from pages import chromium, findings, picture
from programs import runs_once

pytestmark = runs_once

WIDTHS = {"narrow": 360, "middle": 768, "wide": 1280}


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def chat():
    with chatting() as running:
        yield running


@pytest.fixture(scope="module")
def ann_at_the_page(browser, chat):
    with person(browser, chat) as found:
        yield found


@pytest.fixture(scope="module")
def bob_at_the_page(browser, chat):
    with person(browser, chat) as found:
        yield found


@pytest.fixture
def ann(ann_at_the_page):
    """Ann, who has just joined. The chat is that of all tests: others may just be leaving."""
    with ann_at_the_page.visiting("Ann") as found:
        yield found


@pytest.fixture
def bob(bob_at_the_page):
    with bob_at_the_page.visiting("Bob") as found:
        yield found


def names(page):
    """Who is listed beside the messages, without the mark of oneself."""
    return page.locator("#members li > span:nth-child(2)").all_inner_texts()


# -- who is there, and what they say -----------------------------------------------------------


def test_two_browsers_and_a_program(ann, bob, chat):
    with chat.joined("Eve") as eve:
        members = eve.next("joined", name="Eve")["members"]
        assert members == sorted(members)
        assert {"Ann", "Bob", "Eve"} <= set(members)
        for someone in (ann, bob):
            someone.event("Eve joined")
        ann.say("hello")
        assert eve.next("said")["text"] == "hello"
        bob.message("hello")
        bob.say("hi there")
        eve.next("said", name="Bob", text="hi there")
        eve.say("good day")
        for someone in (ann, bob):
            someone.message("good day")
            assert someone.texts() == ["hello", "hi there", "good day"]
        assert {*names(ann.page)} >= {"Ann", "Bob", "Eve"} <= {*names(bob.page)}
        assert names(ann.page)[0] == "Ann"  # oneself comes first
        assert names(bob.page)[0] == "Bob"
        # Own messages are set apart, and say that they were sent.
        assert "own" in ann.message("hello").get_attribute("class")
        assert "own" not in bob.message("hello").get_attribute("class")
        ann.page.locator(".own.sent", has_text="hello").wait_for()
        assert bob.message("hello").locator(".author").inner_text() == "Ann"
        assert re.fullmatch(r"\d\d:\d\d", bob.message("hello").locator("time").inner_text())


def test_messages_of_one_person_are_a_group(ann, chat):
    with chat.joined("Eve") as eve:
        for text in ("one", "two"):
            eve.say(text)
        ann.message("two")
        ann.say("three")
        ann.page.locator(".own.sent", has_text="three").wait_for()
        eve.say("four")
        ann.message("four")
        first = [
            "first" in ann.message(text).get_attribute("class")
            for text in ("one", "two", "three", "four")
        ]
        assert first == [True, False, True, True]


def test_one_form_at_a_time_and_one_connection(browser, chat):
    with person(browser, chat) as ann, chat.joined("Eve") as eve:
        sockets = []
        ann.page.on("websocket", lambda socket: sockets.append(socket))
        assert ann.page.locator("form:visible").count() == 1
        ann.page.locator("#name").fill("Dora")
        # Twice, as by a double click.
        ann.page.evaluate(
            "for (let i = 0; i < 2; i++) document.getElementById('join').requestSubmit()"
        )
        ann.is_("online")
        assert ann.page.locator("form:visible").count() == 1
        assert len(sockets) == 1
        eve.say("once")
        ann.message("once")
        eve.say("again")
        ann.message("again")
        assert ann.texts() == ["once", "again"]


def test_a_reload_keeps_the_name(ann, chat):
    with chat.joined("Eve") as eve:
        ann.say("before")
        eve.next("said")
        ann.page.reload()
        ann.is_("online")
        assert names(ann.page)[0] == "Ann"
        ann.message("before")  # what was said since it has joined is there again
        ann.say("still Ann")
        assert eve.next("said")["name"] == "Ann"
        # Another tab of the browser is somebody else, and the form proposes the name.
        other = ann.page.context.new_page()
        other.goto(chat.url)
        assert other.locator("#name").input_value() == "Ann"
        other.close()


def test_leaving(ann, chat):
    with chat.joined("Eve") as eve:
        ann.say("good-bye")
        eve.next("said")
        ann.page.get_by_role("button", name="Leave").click()
        assert eve.next("left")["name"] == "Ann"
        assert ann.page.locator("form:visible").get_attribute("id") == "join"
        ann.page.reload()
        ann.page.locator("#join").wait_for()
        ann.join("Anna")
        assert ann.texts() == []
        assert eve.next("joined")["name"] == "Anna"


def test_a_name_is_one_persons(browser, chat):
    with chat.joined("Cleo") as cleo, person(browser, chat) as other:
        cleo.next("joined")
        other.page.get_by_label("Your name").fill(" CLEO ")
        other.page.get_by_role("button", name="Join").click()
        other.page.get_by_text("Somebody else has this name").wait_for()
        assert other.page.locator("#name").get_attribute("aria-invalid") == "true"
        other.join("Fred")
        other.page.get_by_role("button", name="Leave").click()
        other.page.get_by_label("Your name").fill(" \u200b ")
        other.page.get_by_role("button", name="Join").click()
        other.page.get_by_text("Type a name first").wait_for()


def test_what_others_type_is_text(ann, chat):
    with chat.joined("<i>Eve</i>") as eve:
        eve.say("<img src=x onerror=alert(1)> & https://example.com/a?b=(c). javascript:alert(1)")
        message = ann.message("onerror")
        assert message.locator("img").count() == 0
        assert message.locator(".author").inner_text() == "<i>Eve</i>"
        (link,) = message.locator("a").all()
        assert link.get_attribute("href") == "https://example.com/a?b=(c"
        assert "noopener" in link.get_attribute("rel")
        ann.page.get_by_label("Message", exact=True).fill("a\n  b")
        ann.text.press("Enter")
        assert eve.next("said", name="Ann")["text"] == "a\n  b"


def test_who_reads_earlier_messages_stays_there(ann, chat):
    with chat.joined("Eve") as eve:
        for number in range(40):
            eve.say(f"message {number}")
        ann.message("message 39")
        at_end = "(log) => log.scrollHeight - log.scrollTop - log.clientHeight < 2"
        log = ann.page.get_by_role("log")
        ann.page.wait_for_function(f"({at_end})(document.getElementById('log'))")
        log.evaluate("(log) => { log.scrollTop = 0; }")
        ann.page.wait_for_function("() => document.getElementById('log').scrollTop === 0")
        # A scroll is told with the next frame.
        ann.page.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        eve.say("the newest")
        newer = ann.page.get_by_role("button", name="New messages")
        newer.wait_for()
        assert log.evaluate("(log) => log.scrollTop") == 0
        newer.click()
        assert log.evaluate(at_end)
        newer.wait_for(state="hidden")


def test_unread_messages_are_counted_in_the_title(ann, chat):
    with chat.joined("Eve") as eve:
        ann.page.evaluate(
            "Object.defineProperty(document, 'hidden', { value: true, writable: true })"
        )
        eve.say("one")
        eve.say("two")
        ann.message("two")
        assert ann.page.title() == "(2) Chat"
        ann.page.evaluate(
            "document.hidden = false; document.dispatchEvent(new Event('visibilitychange'))"
        )
        assert ann.page.title() == "Chat"


# -- an outage -----------------------------------------------------------------------------------


def test_an_outage(browser):
    with (
        chatting() as chat,
        person(browser, chat, "Ann") as ann,
        person(browser, chat, "Bob") as bob,
    ):
        ann.say("before")
        bob.message("before")
        chat.kill()
        for someone in (ann, bob):
            someone.page.get_by_text("The connection is lost.", exact=True).wait_for()
        ann.say("meanwhile")
        ann.page.locator(".own.pending", has_text="meanwhile").wait_for()
        ann.page.get_by_text("What you write is sent when it is back").wait_for()
        chat.start()
        with chat.joined("Eve") as eve:
            for someone in (ann, bob):
                # Else it would come back by itself, a little later.
                someone.page.evaluate("dispatchEvent(new Event('online'))")
                someone.is_("online")
                someone.event("You were away for")
                assert someone.page.locator("#outage").is_hidden()
            ann.page.locator(".own.sent", has_text="meanwhile").wait_for()
            bob.message("meanwhile")  # also if he is back later than she is
            eve.next("joined")
            ann.say("after")
            eve.next("said", text="after")
            for someone in (ann, bob):
                someone.message("after")
                assert someone.texts() == ["before", "meanwhile", "after"]
                assert someone.page.locator("#members li").count() == 3
                # Of those who were here before nobody has joined.
                joined = someone.page.locator(".event", has_text="joined").all_inner_texts()
                assert set(joined) <= {"Bob joined", "Eve joined"}
                assert joined.count("Bob joined") <= 1


# The seconds to the next try, once it waits.
PAUSE = """() => document.getElementById("status").dataset.state === "waiting"
  && Number(document.getElementById("outage-text").textContent.match(/(\\d+) s/)[1])"""


def test_it_tries_less_and_less_often(browser):
    with chatting() as chat, visitor_with_clock(browser, chat) as ann:
        chat.kill()
        pauses = []
        for _ in range(6):
            pauses.append(ann.page.wait_for_function(PAUSE).json_value())
            with ann.page.expect_event("websocket"):
                ann.page.clock.fast_forward(15_000)
        assert pauses[0] == 1
        assert max(pauses) >= 8
        assert max(pauses) <= 15
        ann.is_("waiting")
        with ann.page.expect_event("websocket"):
            ann.page.get_by_role("button", name="Try now").click()
        ann.is_("waiting")
        chat.start()
        ann.page.clock.fast_forward(15_000)  # a click could come as it tries by itself
        ann.is_("online")


def test_a_connection_that_is_silent_is_given_up(browser):
    """The server hangs: nothing says so, but an own message does not come back."""
    with (
        chatting() as chat,
        visitor_with_clock(browser, chat) as ann,
        chat.joined("Eve") as eve,
    ):
        eve.next("joined")
        chat.signal(signal.SIGSTOP)
        ann.say("is anybody there?")
        ann.page.locator(".own.pending").wait_for()
        ann.page.clock.fast_forward(13_000)
        # It waits for a moment, and then tries again, which the server does not answer.
        ann.page.locator('#status:not([data-state="online"])').wait_for()
        chat.signal(signal.SIGCONT)
        ann.page.clock.fast_forward(15_000)
        ann.page.locator(".own.sent").wait_for()
        ann.say("the last")
        said = [eve.next("said") for _ in range(3)]
        # It came twice, with one id: a page shows it once.
        assert [event["text"] for event in said] == ["is anybody there?"] * 2 + ["the last"]
        assert said[0]["id"] == said[1]["id"]
        ann.page.locator(".own.sent", has_text="the last").wait_for()
        assert ann.texts() == ["is anybody there?", "the last"]


@contextlib.contextmanager
def visitor_with_clock(browser, chat):
    """Ann, the clock of whose page can be set forward."""
    with person(browser, chat) as ann:
        ann.page.clock.install()
        ann.page.reload()
        ann.join("Ann")
        yield ann


def test_a_message_that_comes_twice_is_shown_once(ann, chat):
    with chat.joined("Eve") as eve:
        for text in ("twice", "twice", "the end"):
            eve.say(text, id=text)
        ann.message("the end")
        assert ann.texts() == ["twice", "the end"]


def test_an_id_is_its_senders(ann, chat):
    """Programs may count their messages: what one has said does not hide what another says."""
    with chat.joined("Eve") as eve, chat.joined("Uma") as uma:
        eve.say("from Eve", id="1")
        ann.message("from Eve")
        uma.say("from Uma", id="1")
        ann.message("from Uma")
        assert ann.texts() == ["from Eve", "from Uma"]


def test_a_message_that_is_too_long_is_not_sent_again_and_again(ann, chat):
    with chat.joined("Eve") as eve:
        ann.text.evaluate("(text) => { text.removeAttribute('maxlength'); }")
        ann.say("x" * 5000)
        ann.page.get_by_text("Not sent: it is too long").wait_for()
        ann.is_("online")
        ann.say("short")
        assert eve.next("said")["text"] == "short"


# -- images ----------------------------------------------------------------------------------------

GIVE = """async ([bytes, type, name, how]) => {
  const transfer = new DataTransfer();
  const data = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
  transfer.items.add(new File([data], name, { type }));
  if (how === "paste") dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
  else {
    dispatchEvent(new DragEvent("dragover", { dataTransfer: transfer, cancelable: true }));
    const shown = !document.getElementById("drop").hidden;
    dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, cancelable: true }));
    return shown && document.getElementById("drop").hidden;
  }
}"""


def give(page, data, how, kind="image/png", name="picture.png"):
    """Paste or drop a file."""
    import base64

    return page.evaluate(GIVE, [base64.b64encode(data).decode(), kind, name, how])


@pytest.mark.parametrize("way", ["paste", "drop", "file"])
def test_an_image(ann, bob, chat, way):
    with (
        chat.joined("Eve") as eve,
    ):
        # Noise, which no format makes small: it has to have fewer pixels.
        data = picture(800, 600, seed=1) if way == "paste" else picture(80, 60)
        if way == "file":
            ann.page.locator("#file").set_input_files(
                {"name": "a.png", "mimeType": "image/png", "buffer": data}
            )
        else:
            assert give(ann.page, data, way) in (None, True)
        ann.page.locator("#attached").wait_for()
        if way == "paste":
            assert "made smaller from 1.4 MB" in ann.page.locator("#attached").inner_text()
        ann.say("what I see")
        image = eve.next("image", name="Ann")
        assert image["text"] == "what I see"
        assert image["type"] == "image/webp"
        assert image["data"][8:12] == b"WEBP"
        assert len(image["data"]) <= 480 * 1024
        ann.page.locator(".own.sent img").wait_for()
        shown = bob.message("what I see").get_by_role("img", name="what I see")
        shown.wait_for()
        sizes = shown.evaluate(
            "async (i) => { await i.decode(); return [i.naturalWidth, i.width]; }"
        )
        assert sizes[0] == image["width"]
        assert 0 < sizes[1] <= image["width"]
        bob.page.get_by_role("button", name="what I see (enlarge)").click()
        bob.page.get_by_role("dialog", name="Image").wait_for()
        bob.page.keyboard.press("Escape")
        bob.page.get_by_role("dialog", name="Image").wait_for(state="hidden")


def test_an_image_without_words_and_one_that_is_removed(ann, chat):
    with chat.joined("Eve") as eve:
        give(ann.page, picture(4, 4), "paste")
        ann.page.get_by_role("button", name="Remove the image").click()
        ann.page.locator("#attached").wait_for(state="hidden")
        give(ann.page, picture(40, 30), "paste")
        ann.page.locator("#attached").wait_for()
        ann.page.get_by_role("button", name="Send").click()
        image = eve.next("image")
        assert (image["text"], image["width"], image["height"]) == ("", 40, 30)
        ann.page.get_by_role("img", name="Image from you, without a description").wait_for()


# An image is decoded once `read` is called; its promise is kept when the page has done with it.
READ_LATER = """() => {
  const { decode } = Image.prototype;
  const { revokeObjectURL } = URL;
  const start = new Promise((go) => { window.start = go; });
  const end = new Promise((go) => { window.end = go; });
  Image.prototype.decode = async function () { await start; await decode.call(this); };
  URL.revokeObjectURL = (url) => { revokeObjectURL.call(URL, url); setTimeout(window.end); };
  window.read = () => { window.start(); return end; };
}"""


def test_an_image_that_is_read_while_its_sender_leaves(browser, chat):
    """Who joins next at this page is not to send it."""
    with person(browser, chat, "Dora") as dora:
        dora.page.evaluate(READ_LATER)
        give(dora.page, picture(40, 30), "paste")
        dora.page.get_by_role("button", name="Leave").click()
        dora.page.evaluate("read()")
        assert dora.page.locator("#attached").evaluate("(element) => element.hidden")
        dora.join("Fred")
        assert dora.page.locator("#attached").is_hidden()


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png", "cannot be read"),
        (b"hello", "text/plain", "That is no image"),
        (None, "image/png", "The most is 20 MB"),
    ],
)
def test_what_is_no_image_to_send(ann, chat, data, kind, words):
    if data is None:
        give_large(ann.page)
    else:
        give(ann.page, data, "paste", kind)
    ann.page.get_by_role("alert").filter(has_text=words).wait_for()
    assert ann.page.locator("#attached").is_hidden()
    assert "up to 20 MB" in ann.page.locator("#hint").inner_text()


def give_large(page):
    """A file that is too large, which the page makes itself."""
    page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          const type = "image/png";
          transfer.items.add(new File([new Uint8Array(20 * 1024 * 1024 + 1)], "a.png", { type }));
          dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
        }"""
    )


NO_IMAGES = [
    b"",
    b"\n",
    b"{}\n\xff\xd8\xff",
    b'{"width": 1, "height": 1}',
    b'{"width": 1, "height": 1}\n<svg onload="alert(1)">',
    b'{"width": 1, "height": 0}\n\xff\xd8\xff',
    b'{"width": 1, "height": true}\n\xff\xd8\xff',
    b'{"width": 1, "height": 1e9}\n\xff\xd8\xff',
    b"[" * 2000 + b"\n\xff\xd8\xff",
    b" " * 20_000 + b'{"width": 1, "height": 1}\n\xff\xd8\xff',
    b"\xff\n\xff\xd8\xff",
]


def test_what_is_no_image_is_ignored(chat):
    with chat.joined("Eve") as eve:  # by one, as a name that was just left may not be free yet
        for message in NO_IMAGES:
            eve.conn.send_binary(message)
            eve.conn.send_binary(b'{"width": 1, "height": 1, "text": "a \\ud800"}\nGIF89a and more')
            image = eve.next("image")
            assert image.pop("data") == b"GIF89a and more"
            assert image == {
                "event": "image",
                "name": "Eve",
                "type": "image/gif",
                "text": "",
                "width": 1,
                "height": 1,
            }


# -- names and keys, by programs ---------------------------------------------------------------


def test_a_name_comes_back_with_its_key_alone(chat):
    with chat.joined("Cleo", key="secret") as cleo:
        assert cleo.next("welcome")["name"] == "Cleo"
        for key in ({"key": "wrong"}, {}):
            with chat.joined("CLEO", **key) as other:
                assert other.conn.receive(10) is None
                assert other.conn.close_code == 4001
        with chat.joined("Cleo", key="secret") as again:
            assert again.next("joined")["members"].count("Cleo") == 1
        cleo.say("nobody has left")
        while (event := cleo.next_event()) != "said":
            assert event == "joined"


def test_who_was_away_is_told_what_was_said(chat):
    with chat.joined("Cleo", key="secret") as cleo:
        for text in ("kept", "not kept"):
            cleo.say(text, **({"id": text} if text == "kept" else {}))
            cleo.next("said", text=text)
    for away in (-1, True, "60", None, [], float("1e999"), 10**400):
        message = json.dumps({"name": "Cleo", "key": "secret", "away": away})
        with chat.connected() as again:
            again.conn.send(message)
            assert [again.next_event() for _ in range(2)] == ["welcome", "joined"]
    with chat.joined("Cleo", key="secret", away=60) as again:
        assert again.next("said", name="Cleo")["text"] == "kept"
        while (event := again.next_event()) != "joined":
            assert event in ("said", "image")


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (" a \t b ", "a b"),
        ("e\u0301", "é"),
        ("a\u202eb\u200b", "ab"),
        ("x" * 60, "x" * 40),
        # Minutes of work, if all of it were put in order.
        pytest.param("x" + "\u0300\u0316" * 100_000, "x" + "\u0316" * 39, id="marks"),
    ],
)
def test_a_name_has_what_can_be_seen(chat, given, name):
    with chat.joined(given) as one:
        assert one.next("joined")["name"] == name


# -- what everybody can use ----------------------------------------------------------------------


def test_by_the_keyboard_alone(browser, chat):
    with chat.joined("Eve") as eve, person(browser, chat) as ann:
        keyboard = ann.page.keyboard
        keyboard.type("Dora")  # the field has the focus
        keyboard.press("Enter")
        ann.is_("online")
        keyboard.type("one")
        keyboard.press("Shift+Enter")
        keyboard.type("two")
        keyboard.press("Enter")
        assert eve.next("said")["text"] == "one\ntwo"
        keyboard.type("three")
        keyboard.press("Tab")
        assert focused(ann.page) == "Send"
        keyboard.press("Enter")
        eve.next("said", text="three")
        assert focused(ann.page) == "Message"
        keyboard.press("Shift+Tab")
        assert focused(ann.page) == "Add an image"
        keyboard.press("Shift+Tab")
        assert focused(ann.page) == "Messages"
        keyboard.press("Shift+Tab")
        assert focused(ann.page) == "Leave"


FOCUSED = """() => {
  const { activeElement: at } = document;
  return at.getAttribute("aria-label") ?? (at.labels?.[0] ?? at).textContent.trim();
}"""


def focused(page):
    return page.evaluate(FOCUSED)


def test_members_on_a_narrow_screen(ann, chat):
    ann.page.set_viewport_size({"width": 320, "height": 640})
    with chat.joined("Uma"):
        ann.event("Uma joined")
        assert ann.page.locator("#members").is_hidden()
        ann.page.get_by_role("button", name="here: show who").click()
        dialog = ann.page.get_by_role("dialog", name="Here now")
        listed = dialog.locator("li").all_inner_texts()
        assert listed[0] == "A\nAnn\nyou"
        assert "U\nUma" in listed
        ann.page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        # What is wider than the screen is cut off, or has to be scrolled for.
        ann.say("x" * 300 + " https://example.com/" + "y" * 200)
        ann.message("xxx")
        assert ann.page.evaluate("document.documentElement.scrollWidth") == 320
        assert ann.page.evaluate(
            "[...document.querySelectorAll('#log, .bubble')].every((e) => e.scrollWidth <= 320)"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser, scheme):
    with (
        chatting() as chat,
        chat.joined("Eve") as eve,
        person(browser, chat, color_scheme=scheme, reduced_motion="reduce") as ann,
    ):
        page = ann.page
        page.get_by_role("button", name="Join").click()
        assert findings(page) == []
        ann.join("Ann")
        eve.say("hello, see https://example.com/")
        ann.say("hello")
        eve.conn.send_binary(b'{"width": 40, "height": 30}\n' + picture(40, 30))
        page.get_by_role("img", name="Image from Eve").wait_for()
        give(page, picture(40, 30), "paste")
        page.locator("#attached").wait_for()
        for width in WIDTHS.values():
            page.set_viewport_size({"width": width, "height": 720})
            assert findings(page) == []
        page.get_by_role("button", name="without a description (enlarge)").click()
        assert findings(page) == []
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 360, "height": 720})
        page.get_by_role("button", name="here: show who").click()
        assert findings(page) == []
        page.keyboard.press("Escape")
        chat.kill()
        ann.is_("waiting")
        ann.say("is anybody there?")
        for width in (WIDTHS["narrow"], WIDTHS["wide"]):
            page.set_viewport_size({"width": width, "height": 720})
            assert findings(page) == []


def test_nothing_moves_for_those_who_want_that(ann, chat):
    ann.page.emulate_media(reduced_motion="reduce")
    with chat.joined("Eve") as eve:
        for _ in range(3):
            eve.say("hello")
        ann.messages.nth(2).wait_for()
        assert ann.page.evaluate("document.getAnimations().length") == 0


def test_the_page_loads_nothing_from_elsewhere(ann, chat):
    """`visitor` has seen what it asks for; this is what it may ask for at all."""
    came = ann.page.reload()
    assert came.headers["content-security-policy"].startswith("default-src 'none'; ")
    assert "unsafe" not in came.headers["content-security-policy"]
    ann.is_("online")
    for path in (CHAT / "static").iterdir():
        addresses = set(re.findall(r"https?://[\w.]+", path.read_text(encoding="utf-8")))
        assert addresses <= {"http://www.w3.org"}
