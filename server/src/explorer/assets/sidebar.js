// The list of databases and their containers, beside every view. Owns which of them is marked as the one shown.

import * as api from "./api.js";
import { brief, failure, h, show } from "./dom.js";

const link = (place, ...rest) => `#/${["db", place.db, place.coll, ...rest].map(encodeURIComponent).join("/")}`;
/** The address of a view of a container. */
export { link };

let side = null;
let current = null;

export async function render(element) {
  side = element;
  try {
    const [databases, spaces] = await Promise.all([api.databases(), api.space()]);
    const size = new Map(spaces.map((space) => [`${space.database}\n${space.container}`, space.size]));
    const lists = await Promise.all(databases.map((database) => api.containers(database.id)));
    const groups = databases.map((database, at) => group(database.id, lists[at], size));
    show(
      side,
      h("a", { href: "#/", class: "home" }, "Dashboard"),
      h(
        "div",
        { class: "heading" },
        h("h2", {}, "Databases"),
        h(
          "button",
          { class: "quiet", onclick: () => render(side), aria: { label: "Read the list of databases again" } },
          "Refresh",
        ),
      ),
      groups.length > 0
        ? groups
        : h("p", { class: "empty" }, "There are none yet. A client that creates one makes it appear here."),
    );
  } catch (error) {
    show(side, h("a", { href: "#/", class: "home" }, "Dashboard"), failure(error, "No list of databases"));
  }
  mark(current);
}

function group(db, containers, sizes) {
  const entries = containers.map(({ id }) => {
    const size = sizes.get(`${db}\n${id}`);
    const count = size
      ? h(
          "span",
          { class: "count", title: size.isExact ? "documents" : "documents, estimated" },
          `${size.isExact ? "" : "≈"}${brief(size.documents)}`,
        )
      : null;
    return h(
      "li",
      {},
      h("a", { href: link({ db, coll: id }), data: { db, coll: id } }, h("span", { class: "name" }, id), count),
    );
  });
  return h(
    "details",
    { open: true },
    h("summary", {}, h("span", { class: "name" }, db)),
    entries.length > 0 ? h("ul", {}, entries) : h("p", { class: "empty" }, "no containers"),
  );
}

/** Marks the container that is shown; none for the dashboard. */
export function mark(place) {
  current = place;
  for (const anchor of side?.querySelectorAll("a") ?? []) {
    const isShown = place
      ? anchor.dataset.db === place.db && anchor.dataset.coll === place.coll
      : anchor.classList.contains("home");
    if (isShown) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

/** The heading of a container's views, with the tabs between them. */
export function head(place, tab) {
  const tabs = [
    ["items", "Documents"],
    ["query", "Query"],
    ["feed", "Live feed"],
  ];
  return h(
    "header",
    { class: "head" },
    h("p", { class: "crumb" }, place.db),
    h("h1", {}, place.coll),
    h(
      "nav",
      { class: "tabs", aria: { label: "Views of this container" } },
      tabs.map(([name, label]) =>
        h("a", { href: link(place, name), "aria-current": tab === name ? "page" : null }, label),
      ),
    ),
  );
}
