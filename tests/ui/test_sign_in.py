"""Signing in and out in a real browser: where a person lands, and what a page of another site cannot do."""

import subprocess
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.e2e.conftest import FLEET, environ, register
from tests.sharded import Shards
from tests.ui.conftest import Opened


def key(redis_url: str, *words: str) -> str:
    argv = [str(FLEET), "apikeys", "create", *words]
    done = subprocess.run(argv, env=environ(redis_url), capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


@pytest.mark.timeout(120)
def test_a_person_signs_in_acts_and_signs_out(redis_url: str, shards: Shards, opened: Opened) -> None:
    register(shards, "n1", "asr:zh")
    key(redis_url, "--tenant", "*", "--role", "admin")
    text = key(redis_url, "--tenant", "*", "--role", "operator")
    page = opened("/ui/nodes/n1")
    expect(page).to_have_title("Sign in · fleet")
    page.get_by_label("API key").fill("fleet_not_a_key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("API key").fill(text)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/ui/nodes/n1")
    cookies = page.context.cookies()
    assert [(c["name"], c["httpOnly"], c["sameSite"]) for c in cookies] == [("fleet_session", True, "Strict")]
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("link", name="Cordon…").click()
    page.get_by_role("button", name="Cordon n1").click()
    expect(page.get_by_role("status")).to_contain_text("cordoned")
    # another site: a page that is served by nobody, with a form that posts here
    away = urlsplit(page.url)
    other = page.context.new_page()
    other.set_content(
        f'<form method="post" action="{away.scheme}://{away.netloc}/ui/nodes/n1/uncordon"><button>go</button></form>'
    )
    other.get_by_role("button", name="go").click()
    other.wait_for_load_state()
    assert shards.redis.hget(shards.node("n1"), "state") == b"cordoned"
    other.close()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in · fleet")
    assert page.context.cookies() == []
    page.goto("/ui/nodes/n1")
    expect(page).to_have_title("Sign in · fleet")
