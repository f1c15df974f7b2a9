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
import org.apache.kafka.streams.kstream.KGroupedTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * One-minute and one-day statistics per key (account|strategy|symbol) by Kafka Streams, from a topic to a topic; those
 * of each strategy and each account from the changes of the table below them, which is far less than every fill again.
 *
 * Told by the environment (see benchmarks/aggregates.py). Says "warm" when WARM_UP records are in every level, and "done"
 * after TOTAL, when all windows are flushed.
 */
public final class Windows {
    private static final Duration GRACE = Duration.ofDays(2);

    private static final int ROLLED_UP = 4; // two kinds, two levels

    private static long rolledUp; // fills in those, each counted once in each; one stream thread
    private static long warmUp;
    private static long total;
    private static final CountDownLatch DONE = new CountDownLatch(1);

    private Windows() {}

    public static void main(String[] arguments) throws Exception {
        warmUp = Long.parseLong(System.getenv("WARM_UP"));
        total = Long.parseLong(System.getenv("TOTAL"));
        Schema writer = new Schema.Parser().parse(new File(System.getenv("SCHEMA")));

        StreamsBuilder builder = new StreamsBuilder();
        KStream<String, Fill> fills = builder.stream(System.getenv("TOPIC"),
                Consumed.with(Serdes.String(), Serdes.serdeFrom((topic, fill) -> null, new Fill.Reader(writer)))
                        .withTimestampExtractor((record, time) -> ((Fill) record.value()).executedAtUs() / 1000));
        KGroupedStream<String, Fill> byKey = fills.groupByKey(Grouped.keySerde(Serdes.String()));
        rollUp(windows(byKey, "MINUTE", Duration.ofMinutes(1)), "MINUTE");
        rollUp(windows(byKey, "DAY", Duration.ofDays(1)), "DAY");

        Properties settings = settings();
        KafkaStreams streams = new KafkaStreams(builder.build(settings), settings);
        streams.setUncaughtExceptionHandler(failure -> {
            failure.printStackTrace();
            System.exit(1);
            return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
        streams.start();
        DONE.await();
        streams.close(); // commits, and so flushes the caches
        System.out.println("done");
        Thread.sleep(Long.MAX_VALUE); // whoever takes the time ends this process
    }

    private static KTable<Windowed<String>, Statistics> windows(
            KGroupedStream<String, Fill> fills, String kind, Duration length) {
        KTable<Windowed<String>, Statistics> windows = fills
                .windowedBy(TimeWindows.ofSizeAndGrace(length, GRACE))
                .aggregate(Statistics::new, (key, fill, window) -> window.add(fill),
                        Materialized.<String, Statistics, WindowStore<Bytes, byte[]>>as(kind.toLowerCase())
                                .withKeySerde(Serdes.String())
                                .withValueSerde(Statistics.serde()));
        windows.toStream()
                .map((window, sums) -> KeyValue.pair(window.key(),
                        kind + "," + window.window().start() + "," + sums.asText()))
                .to(System.getenv("OUTPUT"), Produced.with(Serdes.String(), Serdes.String()));
        return windows;
    }

    private static void rollUp(KTable<Windowed<String>, Statistics> finest, String kind) {
        KTable<String, Statistics> strategies = level(kind + "-strategy", finest.groupBy(
                (window, sums) -> KeyValue.pair(all(window.key(), 2) + "@" + window.window().start(), sums),
                Grouped.with(kind + "-to-strategy", Serdes.String(), Statistics.serde())), kind);
        level(kind + "-account", strategies.groupBy(
                (key, sums) -> KeyValue.pair(all(key.substring(0, key.indexOf('@')), 1) + key.substring(key.indexOf('@')), sums),
                Grouped.with(kind + "-to-account", Serdes.String(), Statistics.serde())), kind);
    }

    private static KTable<String, Statistics> level(
            String name, KGroupedTable<String, Statistics> parts, String kind) {
        KTable<String, Statistics> sums = parts.aggregate(Statistics::new,
                (key, part, sum) -> {
                    count(part.fills());
                    return sum.with(part, false);
                },
                (key, part, sum) -> {
                    rolledUp -= part.fills();
                    return sum.with(part, true);
                },
                Materialized.<String, Statistics, KeyValueStore<Bytes, byte[]>>as(name)
                        .withKeySerde(Serdes.String())
                        .withValueSerde(Statistics.serde()));
        sums.toStream()
                .map((key, sum) -> KeyValue.pair(key.substring(0, key.indexOf('@')),
                        kind + "," + key.substring(key.indexOf('@') + 1) + "," + sum.asText()))
                .to(System.getenv("OUTPUT"), Produced.with(Serdes.String(), Serdes.String()));
        return sums;
    }

    /** The key of the level with the first so many names of this one. */
    private static String all(String key, int names) {
        String[] parts = key.split("\\|");
        return names == 1 ? parts[0] + "|*|*" : parts[0] + "|" + parts[1] + "|*";
    }

    private static void count(long fills) {
        rolledUp += fills;
        if (rolledUp == ROLLED_UP * warmUp) {
            System.out.println("warm");
        } else if (rolledUp == ROLLED_UP * total) {
            DONE.countDown();
        }
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
