# One image for every process of the platform; what it runs is the command, as for `sentio`.
FROM rust:1.95.0-slim-trixie AS native
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv && python3 -m venv /opt/build
COPY requirements.lock ./
RUN awk '/^maturin==/,/[^\\]$/' requirements.lock > maturin.lock && /opt/build/bin/pip install --require-hashes -r maturin.lock
COPY native/Cargo.toml native/pyproject.toml /tmp/native/
COPY native/src /tmp/native/src
RUN cd /tmp/native && /opt/build/bin/maturin build --release --out /opt/wheels

FROM node:22.21.1-trixie-slim AS page
COPY clients/js /tmp/clients/js
COPY gateway/dashboard /tmp/gateway/dashboard
RUN cd /tmp/clients/js && npm ci --silent && npm run --silent build
RUN cd /tmp/gateway/dashboard && npm ci --silent && npm run --silent build

FROM python:3.11-slim-trixie

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --system --uid 10001 --home-dir /srv/sentio --create-home sentio && install -d -o sentio /archive
WORKDIR /srv/sentio

# Before the code, so that a change of the code does not install everything again.
COPY requirements.lock ./
RUN pip install --require-hashes --requirement requirements.lock

COPY --from=native /opt/wheels /tmp/wheels
RUN pip install --no-deps /tmp/wheels/*.whl

COPY pyproject.toml README.md /tmp/sentio/
COPY schemas /tmp/sentio/schemas
COPY producers /tmp/sentio/producers
COPY consumers /tmp/sentio/consumers
COPY gateway /tmp/sentio/gateway
COPY --from=page /tmp/gateway/dashboard/page/vendor /tmp/sentio/gateway/dashboard/page/vendor
COPY sentio /tmp/sentio/sentio
COPY clients/python/sentio_client /tmp/sentio/clients/python/sentio_client
RUN pip install --no-deps --no-build-isolation /tmp/sentio && rm -r /tmp/sentio

USER 10001
ENTRYPOINT ["sentio"]
CMD ["--help"]
