"""Quix Streams' PostgreSQL sink, in the environment of requirements-quix.txt. At least once.

Usage: quix_store.py BOOTSTRAP TOPIC DSN SCHEMA_FILE. The values are bare Avro, which its deserializer reads fastest.
"""

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from psycopg2.extras import register_uuid
from quixstreams import Application
from quixstreams.models.serializers.avro import AvroDeserializer
from quixstreams.sinks.community.postgresql import PostgreSQLSink

ROWS = 20_000


class WholeRows(PostgreSQLSink):  # type: ignore[misc] # not installed where types are checked
    """The sink takes its columns from the first row of a batch, and leaves nulls out of rows: name them all."""

    columns: tuple[str, ...] = ()

    def _insert_rows(self, table_name: str, rows: list[dict[str, Any]], pks: dict[str, Any] | None = None) -> None:
        if rows:
            rows[0] = {name: rows[0].get(name) for name in self.columns}
        super()._insert_rows(table_name, rows, pks)


def with_uuid(row: dict[str, Any]) -> None:
    row["event_id"] = UUID(bytes=row["event_id"])


def main(bootstrap: str, topic: str, dsn: str, schema_file: str) -> None:
    register_uuid()
    schema = json.loads(Path(schema_file).read_text())
    at = urlsplit(dsn)
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{topic}.quix",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        # Its sinks write when it commits; large and rare commits are the setting for throughput.
        commit_every=ROWS,
        commit_interval=1.0,
        loglevel="WARNING",
        consumer_extra_config={"fetch.queue.backoff.ms": 5},
    )
    sink = WholeRows(
        host=at.hostname or "",
        port=at.port or 5432,
        dbname=at.path.lstrip("/"),
        user=at.username or "",
        password=at.password or "",
        table_name="trades",
        schema_auto_update=False,
        include_metadata=False,
    )
    sink.columns = tuple(field["name"] for field in schema["fields"])
    source = app.topic(topic, value_deserializer=AvroDeserializer(schema), key_deserializer="bytes")
    app.dataframe(source).update(with_uuid).sink(sink)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
