"""Columns to PostgreSQL: one COPY in CSV, written by Arrow.

CSV keeps what matters apart: an empty string is quoted, a null is not; decimals and doubles keep every digit.
"""

from io import BytesIO

import polars as pl
import pyarrow as pa
import pyarrow.csv
from psycopg import Connection, sql


def copy(connection: Connection, table: str, records: pa.RecordBatch) -> None:
    """Append ``records`` to ``table``, whose columns have the names of the records' columns."""
    statement = sql.SQL("copy {} ({}) from stdin (format csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, records.schema.names))
    )
    with connection.cursor() as cursor, cursor.copy(statement) as stream:
        stream.write(_csv(records))


def _csv(records: pa.RecordBatch) -> bytes:
    columns = [_text(column) if pa.types.is_fixed_size_binary(column.type) else column for column in records.columns]
    out = BytesIO()
    table = pa.record_batch(columns, names=records.schema.names)
    pyarrow.csv.write_csv(table, out, pyarrow.csv.WriteOptions(include_header=False))
    return out.getvalue()


def _text(ids: pa.Array) -> pa.Array:
    """Event ids as 32 hexadecimal digits, which a uuid column reads."""
    encoded = pl.Series(ids.cast(pa.binary())).bin.encode("hex").to_arrow()
    return encoded.cast(pa.string())
