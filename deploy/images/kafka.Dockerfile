# Kafka in KRaft mode from the jars of sentio/stack/pom.xml; built by deploy/images/build.
FROM sentio/base
RUN apt-get update \
 && apt-get install -y --no-install-recommends openjdk-21-jre-headless \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system kafka && install -d -o kafka /data
COPY kafka-jars /opt/kafka
COPY kafka.properties kafka-entrypoint /
# Formatted here, so that a container starts in seconds.
RUN printf '%s\n' log.dirs=/data controller.quorum.voters=1@127.0.0.1:9093 \
      listeners=PLAINTEXT://0.0.0.0:9092,INSIDE://127.0.0.1:9094,CONTROLLER://127.0.0.1:9093 \
      advertised.listeners=PLAINTEXT://127.0.0.1:9092,INSIDE://127.0.0.1:9094 \
      listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT \
      inter.broker.listener.name=INSIDE >> /kafka.properties \
 && java -cp '/opt/kafka/*' kafka.tools.StorageTool format --config /kafka.properties \
      --cluster-id c2VudGlvLXRlc3Qta2Fma2 \
 && chown -R kafka /data
USER kafka
EXPOSE 9092
ENTRYPOINT ["/kafka-entrypoint"]
