"""The inventory service: reserves all of an order or nothing, one transaction for each message."""

import os
from datetime import UTC, datetime

from events import CREATED, REJECTED, RESERVED, Decided, OrderCreated, kafka
from faststream import AckPolicy
from faststream.asgi import AsgiFastStream
from sqlalchemy import BigInteger, CheckConstraint, DateTime, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PLENTY = 1_000_000_000


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"
    __table_args__ = (CheckConstraint("reserved <= on_hand"),)
    sku: Mapped[str] = mapped_column(primary_key=True)
    on_hand: Mapped[int] = mapped_column(BigInteger)
    reserved: Mapped[int] = mapped_column(BigInteger, default=0)


class Reservation(Base):
    __tablename__ = "reservation"
    order_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    reserved: Mapped[bool]
    decided_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


engine = create_async_engine(os.environ["DATABASE_URL"])
sessions = async_sessionmaker(engine, expire_on_commit=False)
broker = kafka()
reserved = broker.publisher(RESERVED)
rejected = broker.publisher(REJECTED)
app = AsgiFastStream(broker)


@app.on_startup
async def set_up() -> None:
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with sessions.begin() as session:
        if await session.scalar(select(Stock).limit(1)) is None:
            session.add_all(Stock(sku=f"LOAD-{n:04}", on_hand=PLENTY) for n in range(1, 101))


@broker.subscriber(
    CREATED,
    group_id="peer-faststream-inventory",
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def decide(order: OrderCreated) -> None:
    async with sessions.begin() as session:
        found = await session.get(Reservation, order.order_id)  # It may come again.
        if found is None:
            found = Reservation(
                order_id=order.order_id,
                reserved=await reserve(session, order),
                decided_at=datetime.now(UTC),
            )
            session.add(found)
    event = Decided(
        order_id=order.order_id,
        user_id=order.user_id,
        items=order.items,
        reserved=found.reserved,
        decided_at=found.decided_at,
    )
    await (reserved if found.reserved else rejected).publish(
        event, key=str(order.order_id).encode()
    )


async def reserve(session: AsyncSession, order: OrderCreated) -> bool:
    wanted: dict[str, int] = {}
    for line in order.items:
        wanted[line.sku] = wanted.get(line.sku, 0) + line.qty
    query = select(Stock).where(Stock.sku.in_(wanted)).order_by(Stock.sku).with_for_update()
    stock = {row.sku: row for row in await session.scalars(query)}
    if any(
        sku not in stock or stock[sku].on_hand - stock[sku].reserved < quantity
        for sku, quantity in wanted.items()
    ):
        return False
    for sku, quantity in wanted.items():
        stock[sku].reserved += quantity
    return True
