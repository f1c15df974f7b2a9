"""The signature by which an app's own server lets one connection hear one channel.

https://pusher.com/docs/channels/library_auth_reference/auth-signatures/
"""

import hmac


def is_signed(
    auth: str, *, key: str, secret: str, socket_id: str, channel: str, channel_data: str | None = None
) -> bool:
    """Whether ``auth`` is ``key:HEX``, the HMAC-SHA256 of ``socket_id:channel[:channel_data]``. Of any text."""
    signed = [socket_id, channel] if channel_data is None else [socket_id, channel, channel_data]
    expected = hmac.new(secret.encode(), _bytes(":".join(signed)), "sha256").hexdigest()
    return hmac.compare_digest(_bytes(auth), _bytes(f"{key}:{expected}"))


def _bytes(text: str) -> bytes:
    """JSON may hold halves of characters, which UTF-8 does not."""
    return text.encode(errors="surrogatepass")
