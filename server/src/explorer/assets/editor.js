// Writes a document: a new one, or a new version of one that must still be the version that was read.

import * as api from "./api.js";
import { announce, bytes, count, etagMark, failure, h, show, visible } from "./dom.js";
import { conflict } from "./conflict.js";
import { member, own, parse, pretty } from "./json.js";
import { link } from "./sidebar.js";

export async function editor(body, { place, pk, id, from }) {
  const definition = await api.container(place);
  const paths = definition.partitionKey.paths;
  const isNew = id === null;
  let base = null; // {value, etag}: what the edit builds on, null for a document that is not there
  let start;
  if (isNew) {
    start = pretty(parse(JSON.stringify(template(paths))));
  } else {
    base = await api.read(place, pk, id).then(
      ({ item, etag }) => ({ value: own(item), etag }),
      (error) => (error.status === 404 ? null : Promise.reject(error)),
    );
    const old = from ? own((await api.read(place, pk, id, from)).item) : base?.value;
    if (!old) throw new Error("The document is not there any more. Its versions say when it was deleted.");
    start = pretty(old);
  }

  const field = h("textarea", {
    id: "content",
    spellcheck: "false",
    autocomplete: "off",
    autocapitalize: "off",
    aria: { describedby: "valid" },
    rows: "24",
  });
  field.value = start;
  const valid = h("p", { id: "valid", class: "valid", role: "status" });
  const save = h("button", { class: "primary" }, isNew ? "Create" : base ? "Save" : "Create again");
  const problem = h("div", {});
  const isDirty = () => field.value !== start || Boolean(from);

  const check = () => {
    try {
      const value = parse(field.value);
      const missing =
        value.kind !== "object"
          ? "A document is an object in braces."
          : member(value, "id")?.kind !== "string"
            ? 'A document needs a text as its "id".'
            : "";
      valid.textContent = missing || `JSON, ${bytes(new TextEncoder().encode(field.value).length)}`;
      valid.classList.toggle("wrong", missing !== "");
      save.disabled = missing !== "";
      return missing === "" ? value : null;
    } catch (error) {
      valid.textContent = error.message;
      valid.classList.add("wrong");
      save.disabled = true;
      return null;
    }
  };
  field.addEventListener("input", check);

  const back = isNew ? link(place, "items") : link(place, "doc", pk, id);
  let isDone = false;
  const done = (value) => {
    isDone = true;
    announce("saved");
    location.hash = link(place, "doc", api.keyOf(value, paths), member(value, "id").text);
  };

  async function submit(event) {
    event?.preventDefault();
    const value = check();
    if (!value) {
      field.focus();
      return;
    }
    save.disabled = true;
    try {
      if (base) await api.replace(place, pk, id, base.etag, field.value);
      else await api.create(place, api.keyOf(value, paths), field.value);
      done(value);
    } catch (error) {
      save.disabled = false;
      if (error.status === 412 || (error.status === 404 && base))
        await clash(value, error).catch((failed) => show(problem, failure(failed, "Nothing was saved")));
      else if (error.status === 409)
        show(
          problem,
          failure(
            new Error(
              "A document with this id and partition key is there already. Choose another id, or edit that one.",
            ),
            "Nothing was saved",
          ),
        );
      else show(problem, failure(error, "Nothing was saved"));
    }
  }

  /** Somebody was faster: both changes and what they were made from go to a person. */
  async function clash(mine, error) {
    const current = member(error.body, "current");
    const theirs =
      error.status === 404
        ? null
        : current
          ? { value: own(current), etag: error.etag }
          : await api.read(place, pk, id).then(({ item, etag }) => ({ value: own(item), etag }));
    const decided = await conflict(body, { place, id, base: base.value, mine, theirs });
    if (decided === null) {
      isDone = true;
      location.hash = back;
      return;
    }
    base = theirs;
    start = theirs ? pretty(theirs.value) : "";
    field.value = pretty(decided);
    paint();
    await submit();
  }

  const paint = () =>
    show(
      body,
      h(
        "header",
        { class: "head" },
        h("p", { class: "crumb" }, place.db, " / ", h("a", { href: link(place, "items") }, place.coll)),
        h("h1", {}, isNew ? "New document" : h("bdi", {}, visible(id))),
      ),
      h(
        "form",
        { class: "editor", onsubmit: submit },
        h("label", { for: "content" }, from ? "Content, as it was in the version you chose" : "Content"),
        field,
        h(
          "div",
          { class: "actions" },
          save,
          h("a", { class: "button", href: back }, "Cancel"),
          valid,
          h("span", { class: "spacer" }),
          base
            ? h("span", { class: "hint" }, "Saved only if ", etagMark(base.etag), " is still the current version.")
            : null,
        ),
        problem,
      ),
    );
  paint();
  check();
  field.focus();
  field.setSelectionRange(0, 0);

  const keys = (event) => {
    if (event.key === "s" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      if (body.contains(field)) submit();
    }
  };
  const closing = (event) => {
    if (isDirty() && !isDone) event.preventDefault();
  };
  addEventListener("keydown", keys);
  addEventListener("beforeunload", closing);
  return () => {
    if (isDirty() && !isDone && !confirm("Leave without saving? What you changed is lost.")) return false;
    removeEventListener("keydown", keys);
    removeEventListener("beforeunload", closing);
    return true;
  };
}

/** A new document: an id nobody has, and the members that the partition key is made of. */
function template(paths) {
  const whole = { id: crypto.randomUUID() };
  for (const path of paths) {
    const names = api.pathNames(path);
    let inside = whole;
    names.forEach((name, at) => {
      inside[name] ??= at === names.length - 1 ? "" : {};
      inside = inside[name];
    });
  }
  return whole;
}
