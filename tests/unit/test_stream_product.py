"""What clients say they are, and that nobody who invents names fills the memory."""

import json
import tomllib

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from gateway.stream.product import MOST, NONE, OTHER, Products, product_of
from sentio_client.stream import PRODUCT
from tests.unit.test_documents import ROOT


@pytest.mark.parametrize(
    ("path", "agent", "product"),
    [
        ("/?token=x&client=my-app/2.1.0", "Mozilla/5.0 (X11)", "my-app/2.1.0"),
        ("/", "Python/3.11 websockets/15.0", "Python/3.11"),
        ("/app/key?protocol=7&client=js&version=8.4.0&flash=false", "Mozilla/5.0", "pusher-js/8.4.0"),
        ("/?client=app", None, "app"),
        ("/", None, NONE),
        ("/?client=", "curl/8.1", "curl/8.1"),
        ("/?client=a%20b/1", None, NONE),
        ("/?client=" + "a" * 33, None, NONE),
        ("/?client=a/" + "1" * 17, None, NONE),
        ("/?client=a/1%0Aforged", None, NONE),
    ],
)
def test_product_is_what_the_address_says_else_the_header(path: str, agent: str | None, product: str) -> None:
    headers = Headers() if agent is None else Headers({"User-Agent": agent})
    assert product_of(Request(path, headers)) == product


def test_beyond_a_number_of_products_they_are_others_until_one_is_gone() -> None:
    products = Products()
    for number in range(MOST):
        assert products.enter(f"app/{number}") == f"app/{number}"
    assert products.enter("app/0") == "app/0"
    assert products.enter("one/more") == products.enter("and/another") == OTHER
    assert products.counts[OTHER] == 2
    products.leave("app/0")
    products.leave("app/1")
    products.leave(OTHER)
    products.leave(OTHER)
    assert products.enter("one/more") == "one/more"
    assert sum(products.counts.values()) == MOST
    assert 0 not in products.counts.values()


def test_our_clients_say_the_version_of_their_package() -> None:
    python = tomllib.loads((ROOT / "clients/python/pyproject.toml").read_text())["project"]
    assert f"sentio-python/{python['version']}" == PRODUCT
    javascript = json.loads((ROOT / "clients/js/package.json").read_text())
    assert f'"sentio-js/{javascript["version"]}"' in (ROOT / "clients/js/src/stream.ts").read_text()
