package shop;

import java.time.Instant;
import java.util.List;

/** An order as this shop has always published it; orderstream reads it as it is. */
record OrderCreatedEvent(String orderId, String customerId, List<Item> items, Instant createdAt) {
    record Item(String productId, int quantity) {}
}
