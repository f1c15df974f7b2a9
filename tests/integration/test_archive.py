"""The archive on a real broker: what it holds is the log, byte for byte, whatever is killed."""

from pathlib import Path

from consumers.archive.archive import Archive
from consumers.archive.stores import open_store
from sentio import kafka
from sentio.testing.servers import Kafka
from tests.archives import archive_settings, command, ends, in_archive, in_log, places, process, produce
from tests.pipeline import running, until


def test_archive_is_the_log(kafka: Kafka, tmp_path: Path) -> None:
    settings = archive_settings(kafka.bootstrap, kafka.prefix, tmp_path)
    produce(settings, 50)
    store = open_store(settings)
    with running(Archive(settings), settings):
        until(lambda: sum(ends(store, settings).values()) == 50)
        produce(settings, 50, first=50)
        until(lambda: sum(ends(store, settings).values()) == 100)
    assert in_archive(store, settings) == in_log(settings)
    done = command(settings, "archive", "verify")
    assert done.returncode == 0, done.stderr
