package peer;

import jakarta.validation.Valid;
import jakarta.validation.constraints.Max;
import jakarta.validation.constraints.Min;
import jakarta.validation.constraints.NotBlank;
import jakarta.validation.constraints.NotEmpty;
import jakarta.validation.constraints.Size;
import java.time.Instant;
import java.util.List;

/** What a client sends and is answered, and what the services say to one another. */
public interface Events {
    record Line(@NotBlank @Size(max = 128) String sku, @Min(1) @Max(1_000_000) int qty) {}

    record NewOrder(Long userId, @NotEmpty @Size(max = 500) List<@Valid Line> items) {}

    record Accepted(long orderId, String status) {}

    record OrderCreated(long orderId, Long userId, List<Line> items, Instant createdAt) {}

    record Decided(long orderId, Long userId, List<Line> items, boolean reserved, Instant decidedAt) {}
}
