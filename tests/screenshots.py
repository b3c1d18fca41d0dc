"""Takes pictures of the examples' pages: `make screenshots` puts them all into out/screenshots.

Three widths, light and dark, before, during and after an outage. Those that docs/examples.md shows
are copied to docs/screenshots.
"""

import contextlib
import re
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

from chatting import chatting, person
from pages import chromium, visitor
from places import REPOSITORY
from processes import Process
from programs import free_port

SHOWN = re.compile(r"screenshots/([\w-]+\.png)")
WIDTHS = {"narrow": (390, 780), "middle": (768, 900), "wide": (1280, 800)}
SKY = """() => {
  const canvas = document.createElement("canvas");
  canvas.width = 1200; canvas.height = 750;
  const context = canvas.getContext("2d");
  const sky = context.createLinearGradient(0, 0, 0, 520);
  sky.addColorStop(0, "#274b8f"); sky.addColorStop(0.7, "#e59a6f"); sky.addColorStop(1, "#f7d9a8");
  context.fillStyle = sky; context.fillRect(0, 0, 1200, 750);
  context.fillStyle = "#fff3d6";
  context.beginPath(); context.arc(820, 430, 60, 0, 7); context.fill();
  const hills = [[470, "#5b5a86", 90], [560, "#3c4268", 70], [650, "#20283f", 50]];
  for (const [base, colour, size] of hills) {
    context.fillStyle = colour; context.beginPath(); context.moveTo(0, 750);
    for (let x = 0; x <= 1200; x += 8)
      context.lineTo(
        x, base + size * (Math.sin(x / 130 + base) * 0.6 + Math.sin(x / 47 + base) * 0.3));
    context.lineTo(1200, 750); context.fill();
  }
  canvas.toBlob((blob) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([blob], "hills.png", { type: "image/png" }));
    dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
  });
}"""

# What appears has appeared; a dot that pulses goes on.
SETTLED = """() => Promise.all(document.getAnimations()
  .filter((one) => Number.isFinite(one.effect.getComputedTiming().endTime))
  .map((one) => one.finished))"""


def main(folder):
    """Take all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for scheme in ("light", "dark"):
            with chatting() as chat:
                picture_chat(browser, chat, scheme, folder)
        with dashboard() as url:
            for scheme in ("light", "dark"):
                picture_dashboard(browser, url, scheme, folder)


def picture_chat(browser, chat, scheme, folder):
    """The chat: joining, talking, an outage."""
    with (
        person(browser, chat, color_scheme=scheme) as ann,
        person(browser, chat, "Bob") as bob,
        chat.joined("Greta") as greta,
        chat.joined("Weather station") as station,
    ):
        at_all_widths(ann.page, folder, f"chat-join-{scheme}")
        ann.join("Ann")
        talk(ann, bob, greta, station)
        at_all_widths(ann.page, folder, f"chat-{scheme}")
        ann.page.set_viewport_size({"width": 390, "height": 780})
        ann.page.locator("#show-people").click()
        ann.page.screenshot(path=folder / f"chat-people-{scheme}-narrow.png")
        ann.page.keyboard.press("Escape")
        ann.page.locator(".picture").click()
        ann.page.screenshot(path=folder / f"chat-viewer-{scheme}-narrow.png")
        ann.page.keyboard.press("Escape")
        ann.page.evaluate(SKY)
        ann.page.locator("#attached").wait_for()
        ann.page.screenshot(path=folder / f"chat-attached-{scheme}-narrow.png")
        ann.page.locator("#detach").click()
        chat.kill()
        ann.is_("waiting")
        ann.say("I'll bring the tripod. Can you still read this?")
        ann.page.locator(".own.pending").wait_for()
        at_all_widths(ann.page, folder, f"chat-outage-{scheme}")
        chat.start()
        ann.is_("online")
        ann.page.locator(".own.pending").wait_for(state="hidden")
        at_all_widths(ann.page, folder, f"chat-again-{scheme}")


def talk(ann, bob, greta, station):
    """Something to see."""
    bob.say("Good evening! Is anybody up on the hill?")
    ann.message("Good evening!")
    greta.say("I am. The light is lovely from here.")
    ann.message("I am.")
    greta.say("Look at this:")
    ann.message("Look at")
    ann.say("Hi all, just arrived at the car park")
    bob.message("Hi all")
    bob.page.evaluate(SKY)
    bob.page.locator("#attached").wait_for()
    bob.say("From the ridge, ten minutes ago")
    ann.message("From the ridge")
    station.say("Wind 3 m/s from the west, 14 °C. Details: https://weather.example/ridge")
    ann.message("Wind 3")
    ann.say("Thanks! Then I'll walk up.")
    ann.say("Back in twenty minutes.")
    ann.page.locator(".own.sent", has_text="Back in").wait_for()


def at_all_widths(page, folder, name):
    """One picture for each width."""
    for width, (across, down) in WIDTHS.items():
        page.set_viewport_size({"width": across, "height": down})
        page.evaluate(SETTLED)
        page.screenshot(path=folder / f"{name}-{width}.png")


@contextlib.contextmanager
def dashboard():
    """The dashboard's address."""
    command = ["examples/dashboard/serve.py", "--port", free_port()]
    with Process.python(*command, cwd=REPOSITORY) as process:
        yield process.line_with("https://")


def picture_dashboard(browser, url, scheme, folder):
    """The dashboard, looking on and setting."""
    with visitor(browser, url, ignore_https_errors=True, color_scheme=scheme) as page:
        page.get_by_label("Target in °C").wait_for()
        time.sleep(12)  # for the chart to have something
        page.get_by_label("Target in °C").fill("120" if scheme == "light" else "200")
        page.get_by_role("button", name="Set").click()
        time.sleep(8)
        at_all_widths(page, folder, f"dashboard-{scheme}")


def keep(folder):
    """Copy what the docs show."""
    shown = REPOSITORY / "docs" / "screenshots"
    shown.mkdir(exist_ok=True)
    for name in SHOWN.findall((REPOSITORY / "docs" / "examples.md").read_text(encoding="utf-8")):
        shutil.copy(folder / name, shown)


if __name__ == "__main__":
    main(REPOSITORY / "out" / "screenshots")
    keep(REPOSITORY / "out" / "screenshots")
