"""What wakes a task out of a poller."""

import select
import signal

import pytest

from scriptling_ws._network.alarm import Alarm

pytestmark = pytest.mark.once


def rings(alarm):
    return bool(select.select([alarm], [], [], 0)[0])


def test_it_rings_until_it_was_heard():
    alarm = Alarm()
    assert not rings(alarm)
    assert alarm.heard() == b""
    alarm.ring()
    alarm.ring(7)
    assert rings(alarm)
    assert alarm.heard() == b"\0\7"
    assert not rings(alarm)
    alarm.ring()
    assert rings(alarm)
    alarm.close()


def test_it_never_waits_and_is_never_full():
    alarm = Alarm()
    for _ in range(100_000):
        alarm.ring()
    assert rings(alarm)
    while alarm.heard():
        pass
    assert not rings(alarm)
    alarm.close()


def test_a_closed_one_has_nobody_to_wake():
    alarm = Alarm()
    alarm.close()
    alarm.close()
    alarm.ring()
    assert alarm.fileno() == alarm.entrance == -1


def test_signals_ring_it():
    alarm = Alarm()
    before = signal.signal(signal.SIGINT, lambda *_: None)
    descriptor = signal.set_wakeup_fd(alarm.entrance)
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.set_wakeup_fd(descriptor)
        signal.signal(signal.SIGINT, before)
    assert alarm.heard() == bytes([signal.SIGINT])
    alarm.close()
