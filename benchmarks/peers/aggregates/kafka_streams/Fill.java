import java.io.IOException;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.RoundingMode;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.Set;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.serialization.Deserializer;

/** What the windows need of one TradeExecuted; amounts exact. Account, strategy and symbol are in the record's key. */
record Fill(long executedAtUs, BigDecimal quantity, BigDecimal price, BigDecimal realizedPnl, BigDecimal fees) {
    private static final int FRAME_BYTES = 5; // byte 0 and the schema id
    private static final Set<String> WANTED = Set.of("executed_at", "quantity", "price", "realized_pnl", "fees");

    /** USD, rounded once per fill, half even. */
    BigDecimal notional() {
        return price.multiply(quantity).setScale(6, RoundingMode.HALF_EVEN);
    }

    /** Avro in Confluent framing, read with a schema of only the fields wanted, into one record over and over. */
    static final class Reader implements Deserializer<Fill> {
        private final GenericDatumReader<GenericRecord> reader;
        private final GenericRecord record;
        private BinaryDecoder decoder;

        Reader(Schema writer) {
            List<Schema.Field> fields = writer.getFields().stream()
                    .filter(field -> WANTED.contains(field.name()))
                    .map(field -> new Schema.Field(field, field.schema()))
                    .toList();
            Schema wanted = Schema.createRecord(writer.getName(), null, writer.getNamespace(), false, fields);
            reader = new GenericDatumReader<>(writer, wanted);
            record = new GenericData.Record(wanted);
        }

        @Override
        public Fill deserialize(String topic, byte[] value) {
            decoder = DecoderFactory.get().binaryDecoder(value, FRAME_BYTES, value.length - FRAME_BYTES, decoder);
            try {
                reader.read(record, decoder);
            } catch (IOException failure) {
                throw new IllegalArgumentException("not TradeExecuted in Avro", failure);
            }
            return new Fill((Long) record.get("executed_at"), decimal("quantity", 8), decimal("price", 10),
                    decimal("realized_pnl", 6), decimal("fees", 6));
        }

        private BigDecimal decimal(String field, int scale) {
            ByteBuffer bytes = (ByteBuffer) record.get(field);
            return bytes == null ? null
                    : new BigDecimal(new BigInteger(bytes.array(), bytes.position(), bytes.remaining()), scale);
        }
    }
}
