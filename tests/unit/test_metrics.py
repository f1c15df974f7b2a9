"""docs/metrics.md lists what the processes show, and nothing else."""

from collections.abc import Iterator
from typing import Any, cast

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import Metric

import consumers.figures
import gateway.rest.figures
import gateway.watch.figures
import producers.figures
import producers.sidecar.figures
import producers.webhooks.figures
from gateway.stream.figures import Figures as StreamFigures
from sentio.config import ObservedSettings
from sentio.exporter import Exporter
from tests.unit.test_documents import ROOT, rows

NOTHING = cast("Any", None)
MODULES = (consumers.figures, gateway.rest.figures, gateway.watch.figures, producers.webhooks.figures)


def shown() -> Iterator[Metric]:
    for module in MODULES:
        for name in vars(module):
            if name.isupper():
                yield from getattr(module, name).describe()
    yield from StreamFigures(NOTHING, NOTHING, NOTHING).describe()
    yield from producers.figures.Figures(NOTHING).describe()
    yield from producers.sidecar.figures.Figures(NOTHING).describe()
    yield from Exporter(ObservedSettings()).describe()


def test_document_lists_every_metric_with_its_labels() -> None:
    listed = rows((ROOT / "docs/metrics.md").read_text())
    found = {family.name + ("_total" if family.type == "counter" else ""): family for family in shown()}

    assert sorted(listed) == sorted(found)
    labelled = {name: family._labelnames for name, family in found.items() if hasattr(family, "_labelnames")}
    assert len(labelled) > 20
    for name, labels in labelled.items():
        assert listed[name][0] == ", ".join(labels), name


def test_the_default_registry_has_nothing_of_ours_that_the_document_has_not() -> None:
    listed = rows((ROOT / "docs/metrics.md").read_text())
    ours = {family.name for family in REGISTRY.collect() if family.name.startswith("sentio_")}

    assert {name.removesuffix("_total") for name in listed} >= ours


def test_lag_shows_nothing_of_a_log_that_it_has_not_seen() -> None:
    registry = CollectorRegistry()
    registry.register(Exporter(ObservedSettings()))

    assert "sentio_lag_ready 0.0" in generate_latest(registry).decode()
    assert "sentio_lag_records" not in generate_latest(registry).decode()
