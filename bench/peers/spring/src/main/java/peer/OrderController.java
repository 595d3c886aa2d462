package peer;

import jakarta.validation.Valid;
import java.net.URI;
import java.time.Instant;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicLong;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.context.annotation.Profile;
import org.springframework.http.ResponseEntity;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RestController;

/** The order service: answers once Kafka has the order on every in-sync replica. */
@RestController
@Profile("order")
class OrderController {
    private final KafkaTemplate<String, Object> kafka;
    private final String created;
    private final AtomicLong lastId = new AtomicLong(System.currentTimeMillis() * 1_000);

    OrderController(KafkaTemplate<String, Object> kafka, @Value("${topics.created}") String created) {
        this.kafka = kafka;
        this.created = created;
    }

    @PostMapping("/api/orders")
    CompletableFuture<ResponseEntity<Events.Accepted>> place(@Valid @RequestBody Events.NewOrder order) {
        long id = lastId.incrementAndGet();
        var event = new Events.OrderCreated(id, order.userId(), order.items(), Instant.now());
        return kafka.send(created, Long.toString(id), event)
                .thenApply(sent -> ResponseEntity.accepted()
                        .location(URI.create("/api/orders/" + id))
                        .body(new Events.Accepted(id, "PENDING")));
    }
}
