"""TLS of the stream's port, where it is set: 1.3 only, since every client of today speaks it."""

import ssl

from sentio.config import PREFIX, StreamSettings
from sentio.errors import SettingError


def tls(settings: StreamSettings) -> ssl.SSLContext | None:
    """None: plain, as behind a load balancer. Raises `SettingError` for a certificate that cannot be used."""
    certificate, key = settings.stream_tls_certificate, settings.stream_tls_key
    if certificate is None:
        if key is not None:
            raise SettingError(f"{PREFIX}STREAM_TLS_KEY={key}: {PREFIX}STREAM_TLS_CERTIFICATE is not set")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except OSError as failure:  # an ssl.SSLError is one
        cause = failure.strerror or str(failure)
        raise SettingError(f"{PREFIX}STREAM_TLS_CERTIFICATE={certificate} with its key: {cause}") from failure
    return context
