"""Columns to PostgreSQL: COPY in its binary format, encoded from Arrow by pgpq.

The server reads such bytes as whatever the column's type is, so the table has to have the types of the records:
`consumers.store.tables` checks it before the first row is written.
"""

import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import Connection, sql

CHUNK_ROWS = 10_000  # bounds the encoded bytes held at once; below 5,000 calls cost, above 20,000 nothing is gained


def copy(connection: Connection, table: str, records: pa.RecordBatch) -> None:
    """Append ``records`` to ``table``, whose columns have the names of the records' columns."""
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, records.schema.names))
    )
    encoder = ArrowToPostgresBinaryEncoder(records.schema)
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(encoder.write_header())
        for first in range(0, records.num_rows, CHUNK_ROWS):
            stream.write(encoder.write_batch(records.slice(first, CHUNK_ROWS)))
        stream.write(encoder.finish())
