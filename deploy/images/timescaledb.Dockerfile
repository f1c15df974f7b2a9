# PostgreSQL 17 with Debian's TimescaleDB (Apache edition); built by deploy/images/build.
FROM sentio/base
RUN mkdir -p /etc/postgresql-common \
 && echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf \
 && apt-get update \
 && apt-get install -y --no-install-recommends postgresql-17 postgresql-17-timescaledb \
 && rm -rf /var/lib/apt/lists/* && install -d -o postgres -m 700 /data
USER postgres
ENV PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/data
# Trust: the port is published on loopback only, and the data last as long as a test.
RUN initdb --username=sentio --auth=trust --encoding=UTF8 --locale=C \
 && echo 'host all all all trust' >> /data/pg_hba.conf \
 && printf '%s\n' "listen_addresses = '*'" "timezone = 'UTC'" "log_timezone = 'UTC'" \
      "shared_preload_libraries = 'timescaledb'" "timescaledb.telemetry_level = 'off'" \
      "max_worker_processes = 24" >> /data/postgresql.conf \
 && pg_ctl start --wait --silent --options='-c listen_addresses=' \
 && createdb --username=sentio --host=/var/run/postgresql sentio \
 && pg_ctl stop --wait --silent
EXPOSE 5432
# The fast shutdown; on SIGTERM it would wait for its clients.
STOPSIGNAL SIGINT
CMD ["postgres"]
