"""The notification service: tells the customer by a line in its log, and counts."""

import logging

from events import REJECTED, RESERVED, Decided, kafka
from faststream import AckPolicy
from faststream.asgi import AsgiFastStream, AsgiResponse, get

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
log = logging.getLogger("notification")
broker = kafka()
told = 0


@broker.subscriber(
    RESERVED,
    REJECTED,
    group_id="peer-faststream-notification",
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def tell(decided: Decided) -> None:
    global told
    status = "CONFIRMED" if decided.reserved else "REJECTED"
    log.info("user %s: order %s is %s", decided.user_id, decided.order_id, status)
    told += 1


@get
async def count() -> AsgiResponse:
    return AsgiResponse(str(told).encode(), status_code=200)


app = AsgiFastStream(broker, asgi_routes=[("/count", count)])
