// A line chart of the last hour, or of whatever it is given.
import uPlot from "../vendor/uplot.js";
import { html, useEffect, useRef } from "./ui.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const COLOURS = ["--one", "--two", "--three", "--four", "--five", "--six"];

export function Chart({ at, series, height = 170, format = (v) => String(v), label, theme }) {
  const place = useRef();
  const plot = useRef();
  const names = series.map((s) => s.name).join();
  useEffect(() => {
    const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    const options = {
      width: place.current.clientWidth || 300,
      height,
      cursor: { y: false },
      // Never less than a minute: fewer points would repeat the same second on the axis.
      scales: { x: { range: (_, min, max) => [Math.min(min, max - 60), max] }, y: { range: (_, min, max) => [0, Math.max(max || 0, 1) * 1.05] } },
      axes: [
        { ...axis, values: [[3600, "{HH}:{mm}"], [60, "{HH}:{mm}"], [1, "{HH}:{mm}:{ss}"]].map(([s, f]) => [s, f, null, null, null, null, null, null, 1]) },
        { ...axis, size: 58, values: (_, ticks) => ticks.map(format) },
      ],
      series: [
        { value: (_, v) => (v ? new Date(v * 1000).toLocaleTimeString() : "–") },
        ...series.map((s, n) => ({
          label: s.name,
          stroke: colour(s.colour ?? COLOURS[n % COLOURS.length]),
          width: 1.6,
          points: { show: false },
          spanGaps: false,
          value: (_, v) => (v === null || v === undefined ? "–" : format(v)),
        })),
      ],
    };
    plot.current = new uPlot(options, [at, ...series.map((s) => s.values)], place.current);
    const watching = new ResizeObserver(() => {
      const width = place.current?.clientWidth;
      if (width && plot.current && width !== plot.current.width) plot.current.setSize({ width, height });
    });
    watching.observe(place.current);
    return () => {
      watching.disconnect();
      plot.current.destroy();
    };
  }, [names, height, theme]);
  useEffect(() => {
    plot.current?.setData([at, ...series.map((s) => s.values)]);
  }, [at, series]);
  return html`<div class="chart" ref=${place} role="img" aria-label=${label}></div>`;
}
