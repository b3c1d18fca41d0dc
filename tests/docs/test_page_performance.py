"""docs/performance.md: each missed target is explained; the figures get there without hands.

Whether a figure is right, only a run of the benchmark tells.
"""

import dataclasses
import json
import random
import re
import sys

import pytest

from code_blocks import read
from places import REPOSITORY

pytestmark = pytest.mark.once


def test_every_missed_target_is_explained():
    """Its ratio is in the table of what was missed, as it is or rounded."""
    page = read("docs/performance.md")
    explained = section_of_missed(page)
    missed = re.findall(r"\| ([\d.]+)(?: \([^|]*)? \| missed", page)
    missed += re.findall(r"([\d.]+) KiB (?:traced|resident)[^|]*\| missed", page)
    assert missed
    for ratio in missed:
        assert {ratio, f"{float(ratio):.1f}"} & explained, ratio


def section_of_missed(page):
    """The numbers of that table."""
    text = page.partition("### What was missed, and the limit\n")[2].partition("\n## ")[0]
    return set(re.findall(r"\d+(?:\.\d+)?", text))


# -- how figures get there -----------------------------------------------------


@pytest.fixture(scope="module")
def publish():
    """The benchmark's module; it is in the repository, and in no package."""
    sys.path.insert(0, str(REPOSITORY))
    try:
        from bench import publish
    finally:
        sys.path.remove(str(REPOSITORY))
    return publish


@pytest.fixture
def pages(publish, tmp_path, monkeypatch):
    """Copies of both pages, which it writes in their place."""
    for name in ("PAGE", "README"):
        original = getattr(publish, name)
        copy = tmp_path / original.name
        copy.write_bytes(original.read_bytes())
        monkeypatch.setattr(publish, name, copy)
    return tmp_path


def of_random_rates(publish, plan):
    """A result of each benchmark, as its command makes it; its rates are random.

    The far end of each is the limit.
    """
    from bench.adapters import LIBRARIES
    from bench.server import session as server_session
    from bench.server.contestants import CONTESTANTS
    from bench.server.trial import ServerScore
    from bench.session import Outcome

    def numbers():
        return [random.uniform(1, 1e7) for _ in range(4)]

    client = Outcome(plan)
    for choice in ("one", "two"):
        client.results[choice] = {
            key: {
                contestant.label: publish.Score(numbers(), numbers(), numbers())
                for contestant in scenario.contestants(quick=False)
                if contestant.library in LIBRARIES
            }
            for key, scenario in publish.SCENARIOS.items()
        }
    server = server_session.Outcome(plan)
    for key in publish.SERVER_SCENARIOS:
        server.results[key] = {
            label: ServerScore(*(numbers() for _ in range(3)), "", *(numbers() for _ in range(4)))
            for label in CONTESTANTS
        }
    return client, server


def written(outcome, path):
    path.write_text(json.dumps(dataclasses.asdict(outcome)), encoding="utf-8")
    return str(path)


def test_results_go_into_both_pages(publish, pages):
    plan = publish.Plan(generations=1, rounds=4, seconds=0.1)
    client, server = of_random_rates(publish, plan)
    arguments = ["--client", written(client, pages / "client.json")]
    arguments += ["--server", written(server, pages / "server.json")]
    before = publish.PAGE.read_text(encoding="utf-8")
    assert publish.main([*arguments, "--check"]) == 1
    assert publish.main(arguments) == 0
    assert publish.main(["--check"]) == 0

    page = publish.PAGE.read_text(encoding="utf-8")
    echo, active = client.results["one"]["echo-64"], server.results["echo-1000"]
    rate = publish.report.rate
    row = publish.table(publish.place(page, "client-one"), "messages a second")["echo 64 B"]
    assert row["floor"] == rate(echo["floor"].median())
    rows = publish.table(publish.place(page, "server"), "echoes or opens a second")
    assert rows["echo, 1,000 active"]["picows"] == rate(active["picows"].median()) + "*"
    # What is around the figures is not touched.
    assert publish.PLACE.sub("", page) == publish.PLACE.sub("", before)

    readme = publish.README.read_text(encoding="utf-8")
    (line,) = re.findall(r"^\| an echo of 64 bytes.*", readme, re.M)
    peers = {name: score.median() for name, score in echo.items() if name in publish.session.PEERS}
    best = max(peers, key=peers.get)
    shown = [echo["scriptling-ws"].median(), echo["floor"].median(), peers[best]]
    assert [rate(value) in line for value in shown] == [True] * 3
    assert f"{rate(peers[best])} {best} |" in line
    (line,) = re.findall(r"^\| a server's echoes.*", readme, re.M)
    assert f"over {rate(active['websockets.sync'].median())} |" in line


def test_a_later_result_replaces_scenarios(publish, tmp_path):
    plan = publish.Plan(generations=1, rounds=4, seconds=0.1)
    (_, first), (_, later) = of_random_rates(publish, plan), of_random_rates(publish, plan)
    later.results = {"opens": later.results["opens"]}
    found = [json.loads(json.dumps(dataclasses.asdict(each))) for each in (first, later)]
    both = publish.of_server(found)["server"]
    opens = later.results["opens"]["bare threads"].median()
    active = first.results["echo-64"]["bare threads"].median()
    assert publish.report.rate(opens) in both
    assert publish.report.rate(active) in both
    with pytest.raises(SystemExit, match="the results lack echo-1, echo-4, echo-64"):
        publish.of_server(found[1:])


def test_a_quick_result_is_refused(publish, pages):
    client, _ = of_random_rates(publish, publish.Plan(1, 4, 0.1, quick=True))
    with pytest.raises(SystemExit, match="only indicative"):
        publish.main(["--client", written(client, pages / "client.json")])


def test_a_figure_that_was_changed_by_hand_is_noticed(publish, pages):
    readme = publish.README.read_text(encoding="utf-8")
    line = re.search(r"^\| an echo of 64 bytes.*? \| [^|]+", readme, re.M)[0]
    publish.README.write_text(readme.replace(line, f"{line}9"), encoding="utf-8")
    assert publish.main(["--check"]) == 1
