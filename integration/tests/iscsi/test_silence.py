"""Initiators that fall silent: pinged, and ended if they do not answer."""

from support.waiting import slowness


def test_silent_sessions_are_pinged_and_ended_if_they_do_not_answer(silent_sessions):
    silent_sessions.join(150 * slowness())
    assert not silent_sessions.is_alive(), "the silent session is ended"
    if silent_sessions.fault:
        raise silent_sessions.fault
