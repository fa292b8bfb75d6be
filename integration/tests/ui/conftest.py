"""Fixtures of the web page's tests."""

import pytest
from support.browser import Window, chromium


@pytest.fixture(scope="module")
def browser(private_network):
    """Chromium, for the tests of one module."""
    with chromium() as started:
        yield started


@pytest.fixture
def open_window(browser, server):
    """A function that opens a window with cookies of its own. At the end no page may have logged an error."""
    windows = []

    def open_one(**options):
        windows.append(Window(browser, server, **options))
        return windows[-1]

    yield open_one
    errors = [error for window in windows for error in window.errors]
    for window in windows:
        window.close()
    assert not errors, f"the browser's console has no errors: {errors}"
