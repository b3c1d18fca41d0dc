"""The Autobahn testsuite against this package: `make conformance`, `make conformance-gate`.

The suite's fuzzer is one process, on CPython 2.7 (fuzzer.py); this package is another, as
client or as server, on either codec (testee.py). A run starts both on the loopback and
collects a verdict for each case (runs.py); what was expected, and the table of
docs/conformance.md, are in verdicts.py.
"""
