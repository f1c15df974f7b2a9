"""The two Kafkas that have to behave alike."""

from collections.abc import Iterator

import pytest

from sentio.testing.fake import FakeBroker
from tests.contract.clusters import Clients, Cluster, FakeCluster, RealCluster


@pytest.fixture(params=["fake", "real"])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """An empty corner of the fake, then of a real broker."""
    if request.param == "fake":
        return FakeCluster(FakeBroker())
    return RealCluster(request.getfixturevalue("kafka"))


@pytest.fixture
def clients(cluster: Cluster) -> Iterator[Clients]:
    """Makes clients of that cluster, and closes them."""
    made = Clients(cluster)
    try:
        yield made
    finally:
        made.close()
