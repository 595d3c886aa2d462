package shop;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.ApplicationArguments;
import org.springframework.boot.ApplicationRunner;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.annotation.Bean;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.support.converter.ByteArrayJsonMessageConverter;
import org.springframework.kafka.support.converter.RecordMessageConverter;

/**
 * Places an order on the topic and prints each result that is read:
 * {@code java -jar orders-1.jar web-7 ABC-001=2 MUG=1}; without arguments it only listens.
 */
@SpringBootApplication
class Application implements ApplicationRunner {
    private final KafkaTemplate<String, Object> kafka;
    private final String topic;

    Application(
            KafkaTemplate<String, Object> kafka,
            @Value("${topics.created}") String topic) {
        this.kafka = kafka;
        this.topic = topic;
    }

    public static void main(String[] arguments) {
        SpringApplication.run(Application.class, arguments);
    }

    /** Results name no Java class: what a listener takes says what is read. */
    @Bean
    static RecordMessageConverter converter() {
        return new ByteArrayJsonMessageConverter();
    }

    @Override
    public void run(ApplicationArguments given) throws Exception {
        var words = given.getNonOptionArgs();
        if (words.isEmpty()) {
            return;
        }
        List<OrderCreatedEvent.Item> items = new ArrayList<>();
        for (var word : words.subList(1, words.size())) {
            var parts = word.split("=", 2);
            items.add(new OrderCreatedEvent.Item(parts[0], Integer.parseInt(parts[1])));
        }
        var order = new OrderCreatedEvent(words.get(0), "ann", items, Instant.now());
        var sent = kafka.send(topic, order.orderId(), order).get().getRecordMetadata();
        System.out.printf("sent      order %s  %s%n", order.orderId(), sent);
    }

    @KafkaListener(topics = "${topics.reserved}")
    void reserved(Result result) {
        System.out.printf("reserved  order %s  %s%n", result.orderId(), result.items());
    }

    @KafkaListener(topics = "${topics.rejected}")
    void rejected(Result result) {
        System.out.printf("rejected  order %s  %s%n", result.orderId(), result.reason());
    }
}
