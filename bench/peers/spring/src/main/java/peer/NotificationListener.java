package peer;

import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import org.springframework.context.annotation.Profile;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** The notification service: tells the customer by a line in its log, and counts. */
@RestController
@Profile("notification")
class NotificationListener {
    private static final Logger log = LoggerFactory.getLogger(NotificationListener.class);

    private final AtomicLong told = new AtomicLong();

    @KafkaListener(topics = {"${topics.reserved}", "${topics.rejected}"})
    void tell(List<Events.Decided> decisions) {
        for (var decided : decisions) {
            log.info("user {}: order {} is {}",
                    decided.userId(), decided.orderId(), decided.reserved() ? "CONFIRMED" : "REJECTED");
        }
        told.addAndGet(decisions.size());
    }

    @GetMapping("/count")
    long count() {
        return told.get();
    }
}
