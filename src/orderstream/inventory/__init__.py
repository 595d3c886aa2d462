"""2: reserve stock for an order: OrderCreated -> InventoryReserved | InventoryRejected."""
