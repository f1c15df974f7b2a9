"""What one writes by hand first: fastavro, a dict an event, and psycopg's COPY row by row. At least once.

Usage: row_by_row.py BOOTSTRAP TOPIC DSN SCHEMA_FILE
"""

import json
import sys
from io import BytesIO
from pathlib import Path
from uuid import UUID

import fastavro
import psycopg
from confluent_kafka import Consumer

ROWS = 20_000


def main(bootstrap: str, topic: str, dsn: str, schema_file: str) -> None:
    raw = json.loads(Path(schema_file).read_text())
    schema = fastavro.parse_schema(raw)
    names = [field["name"] for field in raw["fields"]]
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"{topic}.by-row",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.subscribe([topic])
    with psycopg.connect(dsn) as connection:
        while True:
            messages = consumer.consume(ROWS, 0.05)
            if not messages:
                continue
            statement = f"copy trades ({', '.join(names)}) from stdin"
            with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
                for message in messages:
                    if error := message.error():
                        raise RuntimeError(error.str())
                    body = BytesIO(message.value() or b"")
                    body.seek(5)
                    row = fastavro.schemaless_reader(body, schema, None)
                    assert isinstance(row, dict)
                    row["event_id"] = UUID(bytes=row["event_id"])
                    copy.write_row([row[name] for name in names])
            consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
