"""What /stats and /ping show of a connection."""

from frames import PING
from pairs import SOON, both_ends, raw_peer, receive_frame, running
from scriptling_ws._command.figures import figures_of
from scriptling_ws._command.slash import Slash
from scriptling_ws._handshakes.terms import Terms


def test_what_stats_shows_of_pings_and_compression():
    options = {"deflate": Terms(), "compression_threshold": 0}
    with both_ends(**options) as (client, peer):
        assert not any("ping" in line and "took" in line for line in figures_of(client))
        with running(lambda: peer.receive(SOON)):
            assert client.ping(SOON) is not None
            client.send("x" * 1000)
        lines = figures_of(client)
        assert lines[-2].startswith("  answers to pings took ")
        assert lines[-1].startswith("  compression by a factor of ")
        assert lines[-1].endswith(" of what was sent")


class Screen:
    """The lines of answers."""

    form = "hex"

    def __init__(self):
        self.lines = []

    def answer(self, line):
        self.lines.append(line)


def test_a_ping_that_is_answered_and_one_that_is_not(monkeypatch):
    with both_ends() as (client, peer):
        screen = Screen()
        slash = Slash(client, screen, client.close)
        with running(lambda: peer.receive(SOON)):
            slash.run("/ping")
            client.send("enough")
        assert screen.lines[0].startswith("pong after ")
        monkeypatch.setattr("scriptling_ws._command.slash._PING_TIMEOUT", 0.01)
        slash.run("/ping")
        assert screen.lines[1:] == ["no pong within 0 seconds"]


def test_a_ping_on_a_connection_that_ends_meanwhile():
    """That it has ended is told elsewhere."""
    with raw_peer() as (client, peer):
        screen = Screen()
        with running(lambda: Slash(client, screen, client.close).run("/ping")):
            assert receive_frame(peer)[0] == 0x80 | PING
            peer.close()
        assert not client.connected()
        assert screen.lines == []
