"""Stock over HTTP."""

import csv
import io
import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from orderstream.contract.values import SKU_LENGTH_MAX, text_fault
from orderstream.inventory.store import StockLevel, StockStore, TooFew
from orderstream.runtime.web import Problem, json_response, read_body

ON_HAND_MAX = 10**12
CSV_BYTES_MAX = 16 << 20

_CSV = {"schema": {"type": "string"}, "example": "sku,onHand\nABC-001,10\nABC-002,0\n"}
_WHOLE_NUMBER = re.compile("[0-9]{1,13}")

OnHand = Annotated[int, Field(ge=0, le=ON_HAND_MAX, strict=True, examples=[10])]
OfSku = Annotated[str, Path(examples=["ABC-001"])]


class NewLevel(BaseModel):
    """What is on the shelf from now on."""

    onHand: OnHand


class Adjustment(BaseModel):
    """What came in (+) or went out (-)."""

    change: Annotated[int, Field(ge=-ON_HAND_MAX, le=ON_HAND_MAX, strict=True, examples=[5])]


def stock_routes(store: StockStore) -> APIRouter:
    """Read, set, adjust and import stock."""
    routes = APIRouter(tags=["stock"])

    @routes.get("/api/stock/", include_in_schema=False)
    @routes.get("/api/stock", summary="Stock, in order of SKU, page by page")
    def list_stock(  # pyright: ignore[reportUnusedFunction]
        after: Annotated[str, Query(description="go on behind this SKU")] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        levels = store.levels(after, limit + 1)
        more = len(levels) > limit
        return json_response(
            {
                "stock": [shown(level) for level in levels[:limit]],
                "nextAfter": levels[limit - 1].sku if more else None,
            }
        )

    # A SKU may have slashes, so the order of these counts: the list, then adjust, then the SKU.
    @routes.post("/api/stock/{sku:path}/adjust", summary="Add to what is on hand, or take away")
    def adjust_stock(sku: OfSku, adjustment: Adjustment) -> Response:  # pyright: ignore[reportUnusedFunction]
        try:
            return json_response(shown(_known(sku, store.adjust(sku, adjustment.change))))
        except TooFew as error:
            raise _conflict(error) from None

    @routes.get("/api/stock/{sku:path}", summary="On hand, reserved and available")
    def get_stock(sku: OfSku) -> Response:  # pyright: ignore[reportUnusedFunction]
        return json_response(shown(_known(sku, store.level(sku))))

    @routes.put("/api/stock/{sku:path}", summary="Set what is on hand")
    def put_stock(sku: OfSku, level: NewLevel) -> Response:  # pyright: ignore[reportUnusedFunction]
        _check(sku, "sku")
        return json_response(shown(_set(store, [(sku, level.onHand)])[0]))

    @routes.post(
        "/api/stock:import",
        summary="Set many at once from CSV (sku,onHand), all or none",
        openapi_extra={"requestBody": {"content": {"text/csv": _CSV}}},
    )
    async def import_stock(request: HttpRequest) -> Response:  # pyright: ignore[reportUnusedFunction]
        levels = read_csv(await read_body(request, CSV_BYTES_MAX))
        written = await run_in_threadpool(_set, store, levels)
        return json_response({"imported": len(written)})

    return routes


def shown(level: StockLevel) -> dict[str, Any]:
    """Return a stock level as the API shows it."""
    return {
        "sku": level.sku,
        "onHand": level.on_hand,
        "reserved": level.reserved,
        "available": level.available,
    }


def read_csv(body: bytes) -> list[tuple[str, int]]:
    """Read `sku,onHand` lines, with or without a heading; the last line of a SKU counts.

    Raises Problem naming the line at fault.
    """
    levels: dict[str, int] = {}
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Problem(422, "invalid-request", "The file is not UTF-8 text.") from None
    rows = csv.reader(io.StringIO(text))
    try:
        for row in rows:
            if not row or (rows.line_num == 1 and row[0].strip().lower() == "sku"):
                continue
            sku, on_hand = _level(row)
            _check(sku, f"line {rows.line_num}")
            levels[sku] = on_hand
    except (csv.Error, ValueError) as error:
        said = f"Line {rows.line_num} is not `sku,onHand`: {error}."
        raise Problem(422, "invalid-request", said, field=f"line {rows.line_num}") from None
    if not levels:
        raise Problem(422, "invalid-request", "The file has no lines of `sku,onHand`.")
    return list(levels.items())


def _level(row: list[str]) -> tuple[str, int]:
    """Raises ValueError."""
    if len(row) != 2:
        raise ValueError(f"it has {len(row)} values")
    sku, number = row[0].strip(), row[1].strip()
    if not _WHOLE_NUMBER.fullmatch(number) or int(number) > ON_HAND_MAX:
        raise ValueError(f"the second value is no whole number from 0 to {ON_HAND_MAX}")
    return sku, int(number)


def _set(store: StockStore, levels: list[tuple[str, int]]) -> list[StockLevel]:
    try:
        return store.set_on_hand(levels)
    except TooFew as error:
        raise _conflict(error) from None


def _check(sku: str, field: str) -> None:
    if fault := text_fault(sku, SKU_LENGTH_MAX):
        raise Problem(422, "invalid-request", f"The SKU {fault}.", field=field)


def _known(sku: str, level: StockLevel | None) -> StockLevel:
    if level is None:
        raise Problem(404, "unknown-sku", f"Nobody has stocked {sku}; PUT it first.")
    return level


def _conflict(error: TooFew) -> Problem:
    return Problem(409, "reserved", f"{error}.", sku=error.sku, reserved=error.reserved)
