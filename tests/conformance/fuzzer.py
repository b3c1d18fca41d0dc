"""The suite's fuzzer, as client or as server. It runs on CPython 2.7, in the suite's venv.

    fuzzer.py '{"role": "client", "url": "ws://...", "cases": ["*"], "exclude-cases": [],
                "outdir": "..."}'

It writes lines of JSON: {"cases", "versions"}, as a server with its {"port"}, then the
verdict on each case as it ends. It ends with its standard input, a client also after the last
case, and then writes the suite's own report into "outdir".
"""

import json
import os
import platform
import sys
import threading

# It chooses the reactor, so it has to be the first to import anything of Twisted.
from autobahntestsuite.wstest import fuzzing, reactor

LOOPBACK = "127.0.0.1"
AGENT = "scriptling-ws"
VERDICT = (
    "id",
    "behavior",
    "behaviorClose",
    "result",
    "resultClose",
    "remoteCloseCode",
    "duration",
)

spec = json.loads(sys.argv[1])
lines = sys.stdout
log = os.path.join(spec["outdir"], "suite.log")
sys.stdout = open(log, "w")  # noqa: SIM115  # for what the suite itself says, to the end


def say(what):
    lines.write(json.dumps(what) + "\n")
    lines.flush()


def describe(factory):
    versions = {
        "autobahntestsuite": fuzzing.autobahntestsuite.version,
        "autobahn": fuzzing.autobahn.version,
        "CPython": platform.python_version(),
    }
    return {"cases": factory.specCases, "versions": versions}


class Server(fuzzing.FuzzingServerFactory):
    def logCase(self, result):
        fuzzing.FuzzingServerFactory.logCase(self, result)
        say({name: result[name] for name in VERDICT})


class Client(fuzzing.FuzzingClientFactory):
    def logCase(self, result):
        fuzzing.FuzzingClientFactory.logCase(self, result)
        say({name: result[name] for name in VERDICT})


def stop_with_input(factory):
    """Stop when the standard input ends: whoever started this has ended, or wants the report."""
    sys.stdin.read()
    reactor.callFromThread(stop, factory)


def stop(factory):
    if reactor.running:
        factory.createReports()
        reactor.stop()


def main():
    if spec["role"] == "client":
        spec["servers"] = [{"agent": AGENT, "url": spec["url"]}]
        factory = Client(spec)
        first = describe(factory)
    else:
        spec["url"] = "ws://" + LOOPBACK
        factory = Server(spec)
        # The suite's own start listens on every interface.
        port = reactor.listenTCP(0, factory, interface=LOOPBACK).getHost()
        assert port.host == LOOPBACK
        factory.externalPort = port.port  # checked against each request's Host
        first = dict(describe(factory), port=port.port)
    watch = threading.Thread(target=stop_with_input, args=[factory])
    watch.daemon = True
    watch.start()
    say(first)
    reactor.run()


main()
