// Small pictures of figures over time, as SVG. Owns scales and axes; what the figures mean is the dashboard's.

import { h, svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [360, 132, 44, 18, 8];

/**
 * A card with a line over the last while: {title, hint, unit} and `format` for its values. Returns the card and `draw`,
 * which is given [{at, value}] (a null value is a gap) and the time now; `colour` is one of the classes c1 to c4.
 */
export function chart({ title, hint, format, colour = "c1", ceiling = null }) {
  const now = h("span", { class: "now" }, "–");
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    class: colour,
    preserveAspectRatio: "none",
  });
  const tip = h("span", { class: "tip" });
  const card = h(
    "section",
    { class: "card" },
    h("header", {}, h("h3", {}, title), now),
    h("div", { class: "plot" }, picture, tip),
    h("p", { class: "hint" }, hint),
  );
  let drawn = [];

  function draw(points, span, end) {
    const values = points.map((point) => point.value).filter((value) => value !== null);
    const last = points.at(-1)?.value ?? null;
    now.textContent = last === null ? "–" : format(last);
    const top = ceiling ?? nice(Math.max(0, ...values));
    const x = (at) => LEFT + ((at - (end - span)) / span) * (WIDTH - LEFT - 4);
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    drawn = points
      .filter((point) => point.value !== null)
      .map((point) => ({ x: x(point.at), y: y(point.value), point }));
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(top * share), y2: y(top * share) }));
      parts.push(
        svg("text", { class: "tick", x: LEFT - 6, y: y(top * share) + 3.5, "text-anchor": "end" }, format(top * share)),
      );
    }
    parts.push(
      svg("text", { class: "tick", x: LEFT, y: HEIGHT - 4 }, `${Math.round(span / 1000)} s ago`),
      svg("text", { class: "tick", x: WIDTH - 4, y: HEIGHT - 4, "text-anchor": "end" }, "now"),
    );
    for (const run of runs(points)) {
      const path = run.map((point) => `${x(point.at).toFixed(1)},${y(point.value).toFixed(1)}`);
      const floor = y(0).toFixed(1);
      parts.push(
        svg("polygon", {
          class: "area",
          points: `${x(run[0].at).toFixed(1)},${floor} ${path.join(" ")} ${x(run.at(-1).at).toFixed(1)},${floor}`,
        }),
      );
      parts.push(svg("polyline", { class: "line", points: path.join(" ") }));
    }
    const newest = drawn.at(-1);
    if (newest) parts.push(svg("circle", { class: "dot", cx: newest.x, cy: newest.y, r: 3 }));
    picture.replaceChildren(...parts);
    const range =
      values.length > 0 ? `, between ${format(Math.min(...values))} and ${format(Math.max(...values))}` : "";
    picture.setAttribute("aria-label", `${title}: now ${now.textContent}${range}`);
  }

  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const nearest = drawn.reduce(
      (best, one) => (!best || Math.abs(one.x - at) < Math.abs(best.x - at) ? one : best),
      null,
    );
    tip.textContent = nearest
      ? `${format(nearest.point.value)}, ${new Date(nearest.point.at).toLocaleTimeString("en-GB")}`
      : "";
  });
  picture.addEventListener("pointerleave", () => (tip.textContent = ""));
  return { card, draw };
}

/** The stretches without a gap. */
function runs(points) {
  const out = [[]];
  for (const point of points) {
    if (point.value === null) out.push([]);
    else out.at(-1).push(point);
  }
  return out.filter((run) => run.length > 0);
}

/** The next round number: 1, 2, 5 and their multiples by ten. */
function nice(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 1.05) ?? 20 * power;
}
