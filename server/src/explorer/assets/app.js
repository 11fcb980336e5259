// The page's frame: asks for the key if one is needed, follows the address, and keeps the theme.
//
// The address after # names what is shown: a list of parts, each percent-encoded. A view gets the parts, fills the main
// landmark, and may return what to do when it is left; false from that keeps the reader where they are.

import * as api from "./api.js";
import { announce, failure, h, show } from "./dom.js";
import { dashboard } from "./dashboard.js";
import { document as documentView } from "./document.js";
import { editor } from "./editor.js";
import { feed } from "./feed.js";
import { items } from "./items.js";
import { query } from "./query.js";
import * as sidebar from "./sidebar.js";

const main = document.getElementById("main");
let leave = null;
let shown = null;

/** #/db/DATABASE/CONTAINER/VIEW/.. */
function find(parts) {
  if (parts.length === 0) return [dashboard, {}, "Dashboard"];
  const [kind, db, coll, view = "items", ...rest] = parts;
  if (kind !== "db" || coll === undefined) return null;
  const place = { db, coll };
  switch (view) {
    case "items":
      return [items, { place }, coll];
    case "query":
      return [query, { place }, `Query ${coll}`];
    case "feed":
      return [feed, { place }, `Changes of ${coll}`];
    case "new":
      return [editor, { place, pk: null, id: null }, `New in ${coll}`];
    case "doc":
      return rest.length >= 2
        ? [documentView, { place, pk: rest[0], id: rest[1], compare: rest.slice(2) }, rest[1]]
        : null;
    case "edit":
      return rest.length >= 2 ? [editor, { place, pk: rest[0], id: rest[1], from: rest[2] }, `Edit ${rest[1]}`] : null;
    default:
      return null;
  }
}

async function follow() {
  const address = location.hash.replace(/^#\/?/, "");
  if (address === shown) return;
  if (leave?.() === false) {
    history.replaceState(null, "", `#/${shown}`);
    return;
  }
  leave = null;
  let parts;
  try {
    parts = address === "" ? [] : address.split("/").map(decodeURIComponent);
  } catch {
    parts = ["?"];
  }
  // A change of what a view itself wrote into the address is not another view.
  const isFirst = shown === null;
  shown = address;
  const found = find(parts);
  const body = h("div", { class: "view" });
  show(main, body);
  main.scrollTop = 0;
  if (!found) {
    show(
      body,
      h("h1", {}, "There is nothing here"),
      h("p", {}, "The address names no database, container or document."),
    );
    return;
  }
  const [view, what, title] = found;
  document.title = `${title} · etagdb explorer`;
  sidebar.mark(what.place);
  try {
    const left = await view(body, what);
    if (shown === address) leave = left ?? null;
    else left?.();
  } catch (error) {
    if (shown === address) show(body, h("h1", {}, title), failure(error, "This cannot be shown"));
  }
  if (!isFirst && shown === address) {
    // Whoever uses the keyboard or listens goes on from the new view's heading.
    const heading = body.querySelector("h1");
    if (heading && !body.contains(document.activeElement)) {
      heading.tabIndex = -1;
      heading.focus({ preventScroll: true });
    }
    announce(title);
  }
}

function askForKey(error) {
  const field = h("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    required: true,
    aria: { describedby: "key-help" },
  });
  const wrong = h("p", { class: "wrong", role: "alert" }, error ?? "");
  const submit = async (event) => {
    event.preventDefault();
    const typed = field.value;
    field.value = "";
    try {
      if (await api.unlock(typed)) return start();
      wrong.textContent = "The server does not take this key.";
    } catch (failed) {
      wrong.textContent = failed.message;
    }
    field.focus();
    return undefined;
  };
  show(
    main,
    h(
      "form",
      { class: "unlock", onsubmit: submit },
      h("h1", {}, "This server has a key of its own"),
      h(
        "p",
        { id: "key-help" },
        "Enter the account key that it was started with. It stays in this page's memory, signs each request, and is forgotten when you close or reload the page.",
      ),
      h("label", { for: "key" }, "Account key"),
      field,
      wrong,
      h("button", { class: "primary" }, "Open"),
    ),
  );
  field.focus();
}

async function start() {
  document.getElementById("forget").hidden = false;
  await sidebar.render(document.getElementById("side"));
  shown = null;
  await follow();
}

async function connect() {
  document.getElementById("server").textContent = location.host;
  if (!api.canSign()) {
    const text =
      "Browsers sign requests on pages from this machine or over TLS only. Start the server with --tls, or open a tunnel to it and use http:" +
      "//localhost.";
    show(main, h("h1", {}, "This page cannot keep a key safe"), h("p", {}, text));
    return;
  }
  try {
    // Servers beyond this machine never take the well-known key, and need not see it tried.
    const isHere = /^(localhost|.*\.localhost|127(\.\d+){3}|\[::1\])$/.test(location.hostname);
    if (isHere && (await api.unlock())) await start();
    else askForKey();
  } catch (error) {
    show(
      main,
      h("h1", {}, "The server cannot be reached"),
      failure(error, "No connection"),
      h("button", { onclick: connect }, "Try again"),
    );
  }
}

const theme = document.getElementById("theme");
const setTheme = (name) => (document.documentElement.dataset.theme = theme.value = name);
setTheme(localStorage.getItem("theme") ?? "");
theme.addEventListener("change", () => {
  setTheme(theme.value);
  localStorage.setItem("theme", theme.value);
});
document.getElementById("forget").addEventListener("click", () => {
  leave?.();
  leave = null;
  api.forgetKey();
  document.getElementById("forget").hidden = true;
  show(document.getElementById("side"));
  askForKey();
});
addEventListener("hashchange", follow);
addEventListener("again", () => {
  leave = null;
  shown = null;
  follow();
});
connect();
