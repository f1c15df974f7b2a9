"""Kafka Connect with Debezium's JDBC sink, reading Avro by way of an Apicurio registry. At least once.

Set up for throughput as Debezium's documentation says: batches as large as what a poll returns, inserts that the
driver rewrites to many rows a statement, no upsert, no change of the table.
"""

import json
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import fastavro

from benchmarks import programs
from benchmarks.peers import installed
from benchmarks.stage import Log, Stage
from benchmarks.trades import EVENT
from schemas.layout import FRAME, MAGIC
from schemas.registry import current
from sentio.stack import processes

ROWS = 5_000
START_S = 180.0
JAVA = [
    "java",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:-UseDynamicNumberOfCompilerThreads",  # for `programs.consume` to tell the compiler apart
    "-Duser.timezone=UTC",
    "-Djava.awt.headless=true",
]
API = "/apis/registry/v2"

WORKER = """bootstrap.servers={kafka}
key.converter=org.apache.kafka.connect.converters.ByteArrayConverter
value.converter=io.apicurio.registry.utils.converter.AvroConverter
value.converter.apicurio.registry.url={registry}
value.converter.apicurio.registry.id-handler=io.apicurio.registry.serde.Legacy4ByteIdHandler
value.converter.apicurio.registry.use-id=globalId
value.converter.apicurio.registry.headers.enabled=false
offset.storage.file.filename={root}/connect.offsets
offset.flush.interval.ms=5000
listeners=http://127.0.0.1:{port}
connector.client.config.override.policy=All
"""

CONNECTOR = """name={prefix}
connector.class=io.debezium.connector.jdbc.JdbcSinkConnector
tasks.max=1
topics={topic}
connection.url=jdbc:postgresql://{at}?reWriteBatchedInserts=true
connection.username={user}
connection.password={user}
insert.mode=insert
primary.key.mode=none
schema.evolution=none
collection.name.format=trades
batch.size={rows}
consumer.override.max.poll.records={rows}
consumer.override.auto.offset.reset=earliest
consumer.override.max.partition.fetch.bytes=4194304
consumer.override.fetch.max.bytes=52428800
"""


@contextmanager
def registry(stage: Stage) -> Iterator[tuple[str, int]]:
    """(address, id of the schema of `values`) of a registry that runs within the block."""
    folder = installed.jars("registry-pom.xml")
    if not (unpacked := folder / "unpacked").exists():
        with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
            archive.extractall(unpacked, filter="data")
    port = processes.free_port(None)
    address = f"http://127.0.0.1:{port}{API}"
    command = [
        *JAVA,
        f"-Dquarkus.http.port={port}",
        "-Dquarkus.http.host=127.0.0.1",
        "-jar",
        str(next(unpacked.glob("*-runner.jar"))),
    ]
    with programs.started(stage, "registry", command) as program:
        program.wait(lambda: _answers(f"{address}/system/info"), what="a registry that answers", limit_s=START_S)
        request = urllib.request.Request(
            f"{address}/groups/default/artifacts",
            data=json.dumps(schema()).encode(),
            headers={"Content-Type": "application/json", "X-Registry-ArtifactType": "AVRO"},
            method="POST",
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            yield address, json.load(answer)["globalId"]


def command(stage: Stage, log: Log, dsn: str, address: str) -> Sequence[str]:
    """A Connect worker with the one connector."""
    jars = installed.jars("connect-pom.xml")
    at = urlsplit(dsn)
    worker, connector = stage.root / "worker.properties", stage.root / "connector.properties"
    worker.write_text(
        WORKER.format(kafka=stage.kafka, registry=address, root=stage.root, port=processes.free_port(None))
    )
    connector.write_text(
        CONNECTOR.format(
            prefix=log.prefix, topic=log.topic, at=f"{at.hostname}:{at.port}{at.path}", user=at.username, rows=ROWS
        )
    )
    main = "org.apache.kafka.connect.cli.ConnectStandalone"
    return [*JAVA, "-Xmx1g", "-cp", f"{jars}/*", main, str(worker), str(connector)]


def schema() -> dict[str, Any]:
    """TradeExecuted with id and time as Debezium knows them; everything else as it is."""
    special = {
        "event_id": {"type": "string", "connect.name": "io.debezium.data.Uuid"},
        "executed_at": {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"},
    }
    raw = current(EVENT).schema
    return {**raw, "fields": [{**field, "type": special.get(field["name"], field["type"])} for field in raw["fields"]]}


def values(stage: Stage, schema_id: int) -> list[bytes]:
    """The same trades in that schema."""
    writer = fastavro.parse_schema(schema())
    frame = FRAME.pack(MAGIC, schema_id)
    return [frame + _body(writer, row) for row in stage.trades.records.to_pylist()]


def _body(writer: Any, row: Mapping[str, Any]) -> bytes:
    out = BytesIO()
    time_us = round(row["executed_at"].timestamp() * 1_000_000)
    fastavro.schemaless_writer(
        out, writer, {**row, "event_id": str(UUID(bytes=row["event_id"])), "executed_at": time_us}
    )
    return out.getvalue()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
