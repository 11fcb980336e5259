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
    const lists = await Promise.all(databases.map((database) => api.containers(database.id)));
    const groups = databases.map((database, at) => group(database.id, lists[at]));
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
    measure(spaces);
  } catch (error) {
    show(side, h("a", { href: "#/", class: "home" }, "Dashboard"), failure(error, "No list of databases"));
  }
  mark(current);
}

/** Writes beside each container how many documents it holds, from the server's list of sizes. */
export function measure(spaces) {
  const sizes = new Map(spaces.map((space) => [`${space.database}\n${space.container}`, space.size]));
  for (const count of side.querySelectorAll(".count")) {
    const { db, coll } = count.parentElement.dataset;
    const size = sizes.get(`${db}\n${coll}`);
    count.textContent = size ? `${size.isExact ? "" : "≈"}${brief(size.documents)}` : "";
    count.title = size?.isExact ? "documents" : "documents, estimated";
  }
}

function group(db, containers) {
  const entries = containers.map(({ id }) =>
    h(
      "li",
      {},
      h(
        "a",
        { href: link({ db, coll: id }), data: { db, coll: id } },
        h("span", { class: "name" }, id),
        h("span", { class: "count" }),
      ),
    ),
  );
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
