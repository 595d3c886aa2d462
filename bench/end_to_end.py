"""Orders/s from the first POST until all are decided, counted, notified and in the view.

The load generator, Kafka, PostgreSQL and the services share the machine. A run without a count
warms everything up; then three are counted for each number of connections, on the same
installation, whose log and tables grow from run to run. `verify` runs at the end.

A run is long beside the half second that is counted behind its last answer: until the last order
is counted, told and shown, and the groups have shown Kafka how far they are.
"""

from typing import Any

from bench.harness import Figure, folder, installation, keep, load, say, verify

ORDERS = 240_000
WARM_UP_ORDERS = 360_000
RUNS = 3
TARGETS = {256: ">= 10,000", 64: ">= 7,500"}


def run() -> list[Figure]:
    """Measure it."""
    reports: dict[int, list[dict[str, Any]]] = {}
    with folder() as at, installation(at) as up:
        up.wait_until_ready()
        say(f"end_to_end: warming up with {WARM_UP_ORDERS:,} orders")
        _once(up, 256, WARM_UP_ORDERS)
        for connections in TARGETS:
            for _ in range(RUNS):
                report = _once(up, connections, ORDERS)
                reports.setdefault(connections, []).append(report)
                say(
                    f"end_to_end: {connections} connections:"
                    f" {report['endToEndPerSecond']:,.0f} orders/s, accepted"
                    f" {report['acceptedPerSecond']:,.0f}/s, POST p50"
                    f" {report['latencyMs']['p50']:.1f} p99 {report['latencyMs']['p99']:.1f} ms"
                )
        proof = verify(up.env)
    figures: list[Figure] = []
    for connections, target in TARGETS.items():
        runs = reports[connections]
        figures.append(
            Figure(
                f"end to end, {connections} connections",
                "orders/s",
                target,
                [report["endToEndPerSecond"] for report in runs],
            )
        )
        figures.append(
            Figure(
                f"POST accepted, {connections} connections",
                "orders/s",
                "",
                [report["acceptedPerSecond"] for report in runs],
            )
        )
        figures.append(
            Figure(
                f"POST p99, {connections} connections, closed loop",
                "ms",
                "",
                [report["latencyMs"]["p99"] for report in runs],
            )
        )
    cpu = [r["cpuMicrosecondsPerOrder"] for runs in reports.values() for r in runs]
    figures.append(Figure("CPU of the load generator", "us/request", "", cpu))
    keep("end_to_end", figures, proof, reports=reports)
    return figures


def _once(up: Any, connections: int, orders: int) -> dict[str, Any]:
    report = load(up, "--orders", str(orders), "--connections", str(connections), "--until-decided")
    up.check_alive()
    return report
