"""A page in the form a client asks for: JSON, CSV, or an Arrow stream. All hold the same rows and values."""

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO, StringIO
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode
from uuid import UUID

import pyarrow as pa
from fastapi import Query, Request, Response
from pydantic import BaseModel

from gateway.rest.caching import answer, respond
from gateway.rest.models import Statistic, Trade
from schemas.columns import arrow_schema

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"

Form = Literal["json", "csv", "arrow"]
Format = Annotated[Form | None, Query(description="Instead of the Accept header, for a link in a browser")]
_TYPES: dict[Form, str] = {"json": JSON, "csv": CSV, "arrow": ARROW}

_EVENTS: dict[type[BaseModel], str] = {Trade: "TradeExecuted", Statistic: "AggregateUpdated"}

CONTENT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {CSV: {"schema": {"type": "string"}}, ARROW: {"schema": {"type": "string", "format": "binary"}}},
        "headers": {"Link": {"description": 'rel="next": the page behind this one', "schema": {"type": "string"}}},
    }
}
"""For OpenAPI: a page's other forms."""


def page(request: Request, body: BaseModel, form: Form | None, *, max_age_s: int = 0) -> Response:
    """A model of rows and a ``next_cursor``, in ``form`` or as the request accepts it."""
    form = form or _accepted(request.headers.get("accept", ""))
    headers = {"Vary": "Accept", **_link(request, getattr(body, "next_cursor", None))}
    if form == "json":
        return answer(request, body, max_age_s=max_age_s, headers=headers)
    [name] = [name for name in type(body).model_fields if name != "next_cursor"]
    rows: Sequence[BaseModel] = getattr(body, name)
    [kind] = get_args(type(body).model_fields[name].annotation)
    write: Callable[[type[BaseModel], Sequence[BaseModel]], bytes] = _csv if form == "csv" else _arrow
    if form == "csv":
        headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return respond(request, write(kind, rows), _TYPES[form], max_age_s=max_age_s, headers=headers)


def _accepted(header: str) -> Form:
    """The form that an Accept header wants most; JSON where it says nothing of ours."""
    wanted: list[tuple[float, Form]] = []
    for part in header.split(","):
        media_type, *parameters = (word.strip().lower() for word in part.split(";"))
        qualities = [word.removeprefix("q=") for word in parameters if word.startswith("q=")]
        try:
            quality = float(qualities[0]) if qualities else 1.0
        except ValueError:
            quality = 0.0
        wanted += [(quality, form) for form, known in _TYPES.items() if known == media_type and quality > 0]
    return max(wanted, key=lambda one: one[0], default=(0.0, "json"))[1]


def _link(request: Request, cursor: str | None) -> Mapping[str, str]:
    if cursor is None:
        return {}
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return {"Link": f'<{request.url.path}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'}


def _csv(kind: type[BaseModel], rows: Sequence[BaseModel]) -> bytes:
    """RFC 4180 with a header line; null is empty."""
    text = StringIO()
    writer = csv.DictWriter(text, list(kind.model_fields))
    writer.writeheader()
    writer.writerows(row.model_dump(mode="json") for row in rows)
    return text.getvalue().encode()


def _arrow(kind: type[BaseModel], rows: Sequence[BaseModel]) -> bytes:
    schema = _columns(kind)
    arrays = [pa.array([_value(getattr(row, field.name)) for row in rows], field.type) for field in schema]
    out = BytesIO()
    with pa.ipc.new_stream(out, schema) as stream:
        stream.write_batch(pa.record_batch(arrays, schema=schema))
    return out.getvalue()


def _value(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


@cache
def _columns(kind: type[BaseModel]) -> pa.Schema:
    """Types of the event's columns; ids are text, as in the other forms."""
    known = arrow_schema(_EVENTS[kind])
    others = {
        "event_id": pa.field("event_id", pa.string(), nullable=False),
        "date": pa.field("date", pa.date32(), nullable=False),
    }
    return pa.schema([others.get(name) or known.field(name) for name in kind.model_fields])
