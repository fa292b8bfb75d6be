"""Who gets into the web page, and what a page of another site can do with somebody's login."""

import re

from support.objects import HOSTS, host

FORM = "application/x-www-form-urlencoded"


def test_a_token_logs_in_and_the_page_asked_for_opens(server, open_window):
    window = open_window()
    page = window.page
    page.goto("/ui/hosts?q=rack")
    assert page.title() == "Log in · bootlatch"
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").inner_text() == "This is not a valid token."
    page.get_by_label("Token").fill(server.token)
    page.get_by_role("button", name="Log in").click()
    window.wait_until_live()
    assert page.url.endswith("/ui/hosts?q=rack")
    cookies = window.context.cookies()
    assert [(one["httpOnly"], one["sameSite"]) for one in cookies] == [(True, "Strict")], cookies
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/ui/login")
    page.goto("/ui/isos")
    assert "/ui/login" in page.url, "no page opens after the logout"
    # The browser reports the refused token; that is all it has to report.
    assert all("401" in error for error in window.errors), window.errors
    window.errors.clear()


def test_a_viewer_sees_everything_and_changes_nothing(server, open_window):
    assert server.ask("POST", HOSTS, host("seen", 1)).code in (201, 409)
    window = open_window()
    page = window.log_in((server.state / "viewer.token").read_text().strip())
    row = page.locator("tr[data-id='default/seen']")
    row.wait_for()
    assert row.locator("select, input, button").count() == 0, "a viewer's row has no controls"
    refused = page.evaluate("""async () => (await fetch('/api/v1/namespaces/default/baremetalhosts/seen/hold', {method: 'POST'})).status""")
    assert refused == 403
    assert server.ask("GET", f"{HOSTS}/seen").json["status"]["phase"] == "LocalBoot"
    window.errors.clear()


def test_a_restart_of_the_server_keeps_the_login_and_the_page_goes_on(server, open_window):
    window = open_window()
    page = window.log_in()
    server.restart()
    assert server.ask("POST", HOSTS, host("after-restart", 2)).code == 201
    page.locator("tr[data-id='default/after-restart']").wait_for()
    assert "/ui/hosts" in page.url
    # The connection was refused meanwhile, and the browser says so.
    assert all("ERR_" in error for error in window.errors), window.errors
    window.errors.clear()


def test_another_sites_page_gains_nothing_by_a_login(server):
    reply = server.ask("POST", "/ui/login", f"token={server.token}", FORM, token=None, headers={"Sec-Fetch-Site": "same-origin"})
    assert reply.code == 303, reply
    cookie = reply.headers["Set-Cookie"].split(";")[0]
    path = f"{HOSTS}/any/hold"
    rows = [({"Sec-Fetch-Site": "cross-site"}, 401), ({"Sec-Fetch-Site": "same-site"}, 401), ({"Origin": "http://127.0.0.1:1"}, 401),
            ({}, 403), ({"Origin": "http://127.0.0.1:8080"}, 404), ({"Sec-Fetch-Site": "same-origin"}, 404)]
    for headers, code in rows:
        answer = server.ask("POST", path, token=None, headers={"Cookie": cookie, **headers})
        assert answer.code == code, f"{headers}: {answer}"
    answer = server.ask("POST", "/ui/login", f"token={server.token}", FORM, token=None, headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.code == 403, "another site's page logs nobody in"


def test_the_policy_of_a_page_allows_its_own_files_only(server):
    reply = server.ask("GET", "/ui/login", token=None)
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), policy
    assert "require-trusted-types-for 'script'" in policy and "unsafe" not in policy
    assert not re.search(r"<script(?! type=\"module\" src=)|<style|\sstyle=|\son\w+=", reply.text), reply.text


def test_a_source_has_a_bounded_number_of_streams(server):
    """One address opens as many streams as it may; the next is refused, and its pages say so."""
    version = server.ask("GET", "/ui/rows").json["version"]
    streams = []
    try:
        for _ in range(32):
            streams.append(server.watch(f"/ui/events?since={version}", {"Accept": "text/event-stream"}))
            assert streams[-1].code == 200
        refused = server.watch(f"/ui/events?since={version}")
        assert refused.code == 429
        refused.close()
    finally:
        for stream in streams:
            stream.close()
