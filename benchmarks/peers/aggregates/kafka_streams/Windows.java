import java.io.File;
import java.time.Duration;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.avro.Schema;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

/**
 * One-minute and one-day statistics per key (account|symbol) by Kafka Streams, from a topic to a topic.
 *
 * Told by the environment (see benchmarks/aggregates.py). Says "warm" after WARM_UP records, and "done" after TOTAL,
 * when all windows are flushed.
 */
public final class Windows {
    private static final Duration GRACE = Duration.ofDays(2);

    private static long records; // one stream thread

    private Windows() {}

    public static void main(String[] arguments) throws Exception {
        long warmUp = Long.parseLong(System.getenv("WARM_UP"));
        long total = Long.parseLong(System.getenv("TOTAL"));
        Schema writer = new Schema.Parser().parse(new File(System.getenv("SCHEMA")));
        CountDownLatch done = new CountDownLatch(1);

        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, Fill> fills = builder.stream(System.getenv("TOPIC"),
                Consumed.with(Serdes.String(), Serdes.serdeFrom((topic, fill) -> null, new Fill.Reader(writer)))
                        .withTimestampExtractor((record, time) -> ((Fill) record.value()).executedAtUs() / 1000));
        KGroupedStream<String, Fill> byKey = fills.groupByKey(Grouped.keySerde(Serdes.String()));
        windows(byKey, "MINUTE", Duration.ofMinutes(1));
        windows(byKey, "DAY", Duration.ofDays(1));
        // After the windows: the last record is in them when it is counted.
        fills.foreach((key, fill) -> {
            if (++records == warmUp) {
                System.out.println("warm");
            } else if (records == total) {
                done.countDown();
            }
        });

        Properties settings = settings();
        KafkaStreams streams = new KafkaStreams(builder.build(settings), settings);
        streams.setUncaughtExceptionHandler(failure -> {
            failure.printStackTrace();
            System.exit(1);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        streams.start();
        done.await();
        streams.close(); // commits, and so flushes the caches
        System.out.println("done");
        Thread.sleep(Long.MAX_VALUE); // whoever takes the time ends this process
    }

    private static void windows(KGroupedStream<String, Fill> fills, String kind, Duration length) {
        fills.windowedBy(TimeWindows.ofSizeAndGrace(length, GRACE))
                .aggregate(Statistics::new, (key, fill, window) -> window.add(fill),
                        Materialized.<String, Statistics, WindowStore<Bytes, byte[]>>as(kind.toLowerCase())
                                .withKeySerde(Serdes.String())
                                .withValueSerde(Statistics.serde()))
                .toStream()
                .map((window, sums) -> KeyValue.pair(window.key(),
                        kind + "," + window.window().start() + "," + sums.asText()))
                .to(System.getenv("OUTPUT"), Produced.with(Serdes.String(), Serdes.String()));
    }

    /** As Kafka's documentation advises for throughput; what is not named is Kafka Streams' own default. */
    private static Properties settings() {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, System.getenv("GROUP"));
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("KAFKA"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getenv("FOLDER"));
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, System.getenv("GUARANTEE"));
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, System.getenv("COMMIT_MS"));
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256L << 20);
        settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
        settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5_000);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 100);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
        settings.put(StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
        return settings;
    }
}
