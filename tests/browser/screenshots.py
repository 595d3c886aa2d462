"""Makes the README's pictures: `make screenshots`. Look at them before you commit them."""

import threading
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import WIDE, chromium
from tests.flow.installation import Installation, installation

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LOOK_FOR_MS = 40_000  # How long the charts grow.


def main() -> None:
    """Run an installation under some load, and take a picture of four pages."""
    IMAGES.mkdir(exist_ok=True)
    with (
        installation("--quiet", ORDERSTREAM_RETRY_BACKOFF="0.2") as house,
        sync_playwright() as playwright,
    ):
        order_id = _orders(house)
        load = ("load", "--rate", "150", "--orders", "9000", "--connections", "16")
        loading = threading.Thread(target=house.run, args=load)
        loading.start()
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for name, path, scheme, ms in (
            ("overview", "", "light", LOOK_FOR_MS),
            ("order", f"orders/{order_id}", "light", 2_000),
            ("dead-letters", "dead-letters", "light", 2_000),
            ("topic", "topics/inventory.reserved", "dark", 3_000),
        ):
            page = browser.new_page(
                base_url=house.url("console"),
                viewport=WIDE,  # pyright: ignore[reportArgumentType]
                color_scheme=scheme,  # pyright: ignore[reportArgumentType]
            )
            page.goto(f"/#/{path}")
            page.get_by_role("heading", level=1).wait_for()
            page.wait_for_timeout(ms)
            page.screenshot(path=IMAGES / f"{name}.png")
            page.close()
        browser.close()
        loading.join()


def _orders(house: Installation) -> int:
    for sku, qty in (("RARE-1", 9), ("FAIL", 1), ("FAIL", 2), ("T-SHIRT", 4)):
        house.place({"userId": 42, "items": [{"sku": sku, "qty": qty}]})
    order = {"userId": 42, "items": [{"sku": "MUG", "qty": 2}, {"sku": "T-SHIRT", "qty": 1}]}
    order_id = house.place(order).json()["orderId"]
    house.decided(order_id)
    house.http.post(f"{house.url('order')}/api/orders/{order_id}/fulfil")
    return order_id


if __name__ == "__main__":
    main()
