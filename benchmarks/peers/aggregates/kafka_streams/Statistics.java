import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;

/** One window's counts and exact sums, and their bytes in the state store. */
final class Statistics {
    private long fills;
    private long trades;
    private long wins;
    private long losses;
    private BigDecimal volume = BigDecimal.ZERO.setScale(8);
    private BigDecimal notional = BigDecimal.ZERO.setScale(6);
    private BigDecimal fees = BigDecimal.ZERO.setScale(6);
    private BigDecimal realizedPnl = BigDecimal.ZERO.setScale(6);

    Statistics add(Fill fill) {
        fills++;
        volume = volume.add(fill.quantity());
        notional = notional.add(fill.notional());
        fees = fees.add(fill.fees());
        if (fill.realizedPnl() != null) {
            trades++;
            wins += fill.realizedPnl().signum() > 0 ? 1 : 0;
            losses += fill.realizedPnl().signum() < 0 ? 1 : 0;
            realizedPnl = realizedPnl.add(fill.realizedPnl());
        }
        return this;
    }

    long fills() {
        return fills;
    }

    /** The sums of both, or what is left without the other's. */
    Statistics with(Statistics other, boolean without) {
        int sign = without ? -1 : 1;
        fills += sign * other.fills;
        trades += sign * other.trades;
        wins += sign * other.wins;
        losses += sign * other.losses;
        volume = without ? volume.subtract(other.volume) : volume.add(other.volume);
        notional = without ? notional.subtract(other.notional) : notional.add(other.notional);
        fees = without ? fees.subtract(other.fees) : fees.add(other.fees);
        realizedPnl = without ? realizedPnl.subtract(other.realizedPnl) : realizedPnl.add(other.realizedPnl);
        return this;
    }

    String asText() {
        return fills + "," + trades + "," + wins + "," + losses + "," + volume.toPlainString() + ","
                + notional.toPlainString() + "," + fees.toPlainString() + "," + realizedPnl.toPlainString();
    }

    static Serde<Statistics> serde() {
        return Serdes.serdeFrom(new ToBytes(), new FromBytes());
    }

    /** Four counts of 8 bytes, then each sum as one byte of length and its unscaled value. */
    private static final class ToBytes implements Serializer<Statistics> {
        @Override
        public byte[] serialize(String topic, Statistics window) {
            if (window == null) {
                return null;
            }
            byte[][] sums = {unscaled(window.volume), unscaled(window.notional), unscaled(window.fees),
                    unscaled(window.realizedPnl)};
            int size = 32;
            for (byte[] sum : sums) {
                size += 1 + sum.length;
            }
            ByteBuffer bytes = ByteBuffer.allocate(size);
            bytes.putLong(window.fills).putLong(window.trades).putLong(window.wins).putLong(window.losses);
            for (byte[] sum : sums) {
                bytes.put((byte) sum.length).put(sum);
            }
            return bytes.array();
        }

        private static byte[] unscaled(BigDecimal amount) {
            return amount.unscaledValue().toByteArray();
        }
    }

    private static final class FromBytes implements Deserializer<Statistics> {
        @Override
        public Statistics deserialize(String topic, byte[] value) {
            if (value == null) {
                return null;
            }
            ByteBuffer bytes = ByteBuffer.wrap(value);
            Statistics window = new Statistics();
            window.fills = bytes.getLong();
            window.trades = bytes.getLong();
            window.wins = bytes.getLong();
            window.losses = bytes.getLong();
            window.volume = amount(bytes, 8);
            window.notional = amount(bytes, 6);
            window.fees = amount(bytes, 6);
            window.realizedPnl = amount(bytes, 6);
            return window;
        }

        private static BigDecimal amount(ByteBuffer bytes, int scale) {
            int length = bytes.get();
            BigDecimal found = new BigDecimal(new BigInteger(bytes.array(), bytes.position(), length), scale);
            bytes.position(bytes.position() + length);
            return found;
        }
    }
}
