"""Where a handshake has its token."""

from urllib.parse import parse_qs

from websockets.http11 import Request

from gateway.access import Unwelcome

BEARER = "bearer "


def token_of(request: Request) -> str | None:
    """Of the header `Authorization: Bearer`, or of `?token=`, since a browser cannot set the header; None: neither.

    Raises `Unwelcome` for another kind of authorization.
    """
    headers = request.headers.get_all("Authorization")
    if headers:
        if len(headers) > 1 or not headers[0].lower().startswith(BEARER):
            raise Unwelcome("authorization is one Bearer token")
        return headers[0][len(BEARER) :].strip()
    query = request.path.partition("?")[2]  # `urlsplit` refuses some paths
    tokens = parse_qs(query, keep_blank_values=True).get("token", [])
    if len(tokens) > 1:
        raise Unwelcome("there are several tokens")
    return tokens[0] if tokens else None
