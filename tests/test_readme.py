"""The README and the pages: their examples run, their figures are those of the measurements.

What the README says of behaviour has its tests elsewhere, where that behaviour is tested. The
tables of the pages are held against the code by tests/docs/test_page_tables.py.
"""

import itertools
import re

import pytest

import scriptling_ws as ws
from code_blocks import PAGES, read, slug
from looped import looped
from places import REPOSITORY
from processes import Process
from snippets import program
from tables import rows

pytestmark = pytest.mark.once("the examples do what they say; how, other tests have")


def lines_of(code):
    return [line for line in code.splitlines() if line and not line.startswith("#")]


@pytest.mark.blocks("README.md#a-client", "README.md#a-server")
def test_client_and_server(blocks):
    client, server = blocks
    assert len(lines_of(client.text)) <= 6
    assert len(lines_of(server.text)) <= 6
    assert server.text.count("8080") == client.text.count("8080") == 1
    with program(server.changed({", port=8080": ""})) as (_, url):
        code = client.changed({"ws://127.0.0.1:8080": url})
        with Process.python("-c", code) as talking:
            assert talking.finish() == (["hello", r"b'\x01\x02\xff' True"], 0)


def test_it_is_read_in_a_minute():
    """What is longer belongs into docs/."""
    assert len(read("README.md").splitlines()) < 150


# -- the figures ---------------------------------------------------------------


def test_figures_are_those_of_the_page_on_performance():
    command = ["-m", "bench.publish", "--check"]
    with Process.python(*command, cwd=REPOSITORY) as process:
        assert process.finish() == ([], 0)


@pytest.mark.parametrize("page", ["README.md", "docs/guarantees.md"])
def test_conformance(page):
    cases, good, informational = re.search(
        r"the (\d+) cases of the Autobahn testsuite (\d+) are OK and (\d+)\s+INFORMATIONAL",
        read(page),
    ).groups()
    heading, *runs = rows(read("docs/conformance.md"))
    runs = [dict(zip(heading, run, strict=True)) for run in runs]
    ends = {(run["role"], run["codec"]) for run in runs}
    both = ("client", "server"), ("compiled", "pure")
    assert ends == set(itertools.product(*both))
    for run in runs:
        assert (run["cases"], run["OK"]) == (cases, good)
        assert run["INFORMATIONAL"] == informational


# -- names, links and commands ---------------------------------------------------

# What is for those who change the package.
INSIDE = {"docs/design.md", "docs/performance.md", "docs/comparison.md", "docs/releasing.md"}


@looped("name", ws.__all__)
def test_every_public_name_is_on_a_page(name):
    pages = [page for page in PAGES if page.startswith("docs/") and page not in INSIDE]
    assert any(re.search(rf"`[^`]*\b{name}\b|\b{name}\(", read(page)) for page in pages)


def anchors(page):
    """What a link to a part of a page may name."""
    titles = re.findall(r"^#+ (.+)$", read(page), re.M)
    return {slug(title) for title in titles}


@looped("page", PAGES)
def test_links(page):
    for link in re.findall(r"\]\(([^)]+)\)", read(page)):
        if not link.startswith("https://"):
            path, _, part = link.partition("#")
            target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
            assert target.exists(), link
            assert not part or part in anchors(target), link


@looped("page", PAGES)
def test_commands_of_make(page):
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    text = re.sub(r"\s+", " ", read(page))
    named = set(re.findall(r"`make ([a-z-]+)", text))
    named |= set(re.findall(r"^make ([a-z-]+)", read(page), re.M))
    assert named <= targets
