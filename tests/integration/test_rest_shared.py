"""Two APIs on one Redis: requests are counted by both together, and by each alone while Redis is away."""

import pytest
from pydantic import SecretStr

from gateway.rest import guard, rate
from sentio.config import RestSettings, load
from sentio.stack.redis import RedisServer
from tests.rest import Rows, served

PATH = "/api/v1/signals/current"


def test_requests_are_counted_together_and_apart_while_redis_is_away(
    rows: Rows, database: str, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate, "PAUSE_S", 0)
    monkeypatch.setattr(guard, "MINUTE_S", 3_600)  # nothing is refilled meanwhile
    url = SecretStr(own_redis.address)
    settings = load(RestSettings, database=SecretStr(database), redis=url, rest_requests=4)
    with served(settings) as one, served(settings) as other:

        def asked(times: int) -> list[int]:
            return [api.get(PATH).status_code for _ in range(times) for api in (one, other)]

        assert asked(3) == [200, 200, 200, 200, 429, 429]
        assert int(one.get(PATH).headers["Retry-After"]) > 0
        own_redis.kill()
        assert asked(3) == [200, 200, 200, 200, 429, 429], "each has granted two before"
        own_redis.start()
        assert asked(3) == [200, 200, 200, 200, 429, 429], "it has forgotten all, and counts for both again"
