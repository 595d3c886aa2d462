"""The order service: answers once Kafka has the order on every in-sync replica."""

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from events import CREATED, Accepted, NewOrder, OrderCreated, kafka
from fastapi import FastAPI, Response

broker = kafka()
created = broker.publisher(CREATED)
ids = itertools.count(time.time_ns() // 1_000)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await broker.start()
    yield
    await broker.stop()


app = FastAPI(lifespan=lifespan)


@app.post("/api/orders", status_code=202)
async def place(order: NewOrder, response: Response) -> Accepted:
    order_id = next(ids)
    event = OrderCreated(
        order_id=order_id,
        user_id=order.user_id,
        items=order.items,
        created_at=datetime.now(UTC),
    )
    await created.publish(event, key=str(order_id).encode())
    response.headers["Location"] = f"/api/orders/{order_id}"
    return Accepted(order_id=order_id)
