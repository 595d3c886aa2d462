package shop;

import java.util.List;

/** What orderstream says of an order, as far as this shop cares: other fields are ignored. */
record Result(String orderId, List<Line> items, String reason) {
    record Line(String sku, int qty) {}
}
