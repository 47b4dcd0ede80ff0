"""The addresses in turn, and those that are left out for a moment."""

import pytest

from scheduler.client.urls import Urls
from scheduler.errors import BadInput


def test_each_address_has_its_turn() -> None:
    urls = Urls(["http://a", "http://b/", "http://c"])
    assert [urls.pick(0.0) for _ in range(4)] == [(f"http://{name}", 0.0) for name in "bcab"]


def test_an_address_that_is_set_aside_is_left_out_until_its_time() -> None:
    urls = Urls(["http://a", "http://b"])
    urls.set_aside("http://a", 5.0)
    assert {urls.pick(4.9) for _ in range(4)} == {("http://b", 0.0)}
    assert {urls.pick(5.0)[0] for _ in range(4)} == {"http://a", "http://b"}


def test_where_all_are_set_aside_the_first_to_come_back_is_waited_for() -> None:
    urls = Urls(["http://a", "http://b"])
    urls.set_aside("http://a", 5.0)
    urls.set_aside("http://b", 3.0)
    assert {urls.pick(1.0) for _ in range(4)} == {("http://b", 2.0)}


@pytest.mark.parametrize(
    "urls", [[], "", ["127.0.0.1:8080"], ["http://"], ["ftp://a"], ["http://a", "http://a:port"]]
)
def test_addresses_that_cannot_be_meant_are_refused(urls: list[str]) -> None:
    with pytest.raises(BadInput, match="urls"):
        Urls(urls)
