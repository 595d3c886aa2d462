package peer;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.IntStream;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Profile;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.stereotype.Component;

/** The inventory service: reserves all of an order or nothing, in memory. */
@Component
@Profile("inventory")
class InventoryListener {
    private static final long PLENTY = 1_000_000_000;

    private final KafkaTemplate<String, Object> kafka;
    private final String reserved;
    private final String rejected;
    private final ConcurrentHashMap<String, AtomicLong> stock = new ConcurrentHashMap<>();

    InventoryListener(
            KafkaTemplate<String, Object> kafka,
            @Value("${topics.reserved}") String reserved,
            @Value("${topics.rejected}") String rejected) {
        this.kafka = kafka;
        this.reserved = reserved;
        this.rejected = rejected;
        IntStream.rangeClosed(1, 100)
                .forEach(n -> stock.put("LOAD-%04d".formatted(n), new AtomicLong(PLENTY)));
    }

    /** The offsets of a batch are committed once Kafka has all its results. */
    @KafkaListener(topics = "${topics.created}")
    void decide(List<Events.OrderCreated> orders) {
        CompletableFuture.allOf(orders.stream().map(this::decide).toArray(CompletableFuture[]::new)).join();
    }

    private CompletableFuture<?> decide(Events.OrderCreated order) {
        boolean enough = reserve(order.items());
        var event = new Events.Decided(
                order.orderId(), order.userId(), order.items(), enough, Instant.now());
        return kafka.send(enough ? reserved : rejected, Long.toString(order.orderId()), event);
    }

    private boolean reserve(List<Events.Line> lines) {
        var taken = new ArrayList<Events.Line>();
        for (var line : lines) {
            if (!take(line)) {
                taken.forEach(back -> stock.get(back.sku()).addAndGet(back.qty()));
                return false;
            }
            taken.add(line);
        }
        return true;
    }

    private boolean take(Events.Line line) {
        var free = stock.get(line.sku());
        return free != null
                && free.getAndUpdate(n -> n >= line.qty() ? n - line.qty() : n) >= line.qty();
    }
}
