// Shows a conflict: what an edit was made from, what somebody else saved meanwhile, and the edit; place by place, so that
// a person sees at once where the two really contradict each other. Owns the choices until they are complete.

import { announce, h, plural, show, visible } from "./dom.js";
import { brief, pathText } from "./diff.js";
import { sideBySide, source } from "./diffview.js";
import { pretty } from "./json.js";
import { compare, merged } from "./merge.js";

/**
 * Asks what is to be saved. Resolves to a document, or to null for what is there already. `theirs` is null when somebody
 * deleted the document.
 */
export function conflict(body, { id, base, mine, theirs }) {
  return new Promise((resolve) => {
    if (!theirs) {
      deleted(body, id, mine, resolve);
      return;
    }
    const places = compare(base, mine, theirs.value);
    const open = () => places.filter((place) => place.choice === null).length;
    const clashing = places.filter((place) => place.isConflict).length;
    const save = h(
      "button",
      { class: "primary", onclick: () => resolve(merged(base, mine, theirs.value, places)) },
      "Save the merged document",
    );
    const state = h("p", { class: "hint", role: "status" });
    const result = h("div", { class: "merged" });
    const settle = () => {
      const left = open();
      save.disabled = left > 0;
      state.textContent = left > 0 ? `${plural(left, "place")} to decide.` : "Everything is decided.";
      const after = merged(base, mine, theirs.value, places);
      show(
        result,
        sideBySide(pretty(theirs.value), pretty(after), [
          "What is there now",
          left > 0 ? "After saving, what is not decided as in the base" : "After saving",
        ]),
      );
    };
    const heading = h("h1", { tabindex: "-1" }, "Somebody saved this document before you");
    const summary =
      clashing === 0
        ? `Your change and theirs touch different places of ${visible(id)}: they fit together.`
        : `In ${plural(clashing, "place")} of ${visible(id)} you and somebody else made different changes. Choose which to keep.`;
    show(
      body,
      h("header", { class: "head" }, heading, h("p", { class: "lead" }, summary)),
      h(
        "div",
        { class: "three", tabindex: "0", role: "region", aria: { label: "The three versions" } },
        h(
          "table",
          {},
          h("caption", { class: "unseen" }, "Every place that you or they changed"),
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "Place"),
              h("th", { scope: "col" }, "Base", h("small", {}, "what you started from")),
              h("th", { scope: "col" }, "Theirs", h("small", {}, "saved, and current")),
              h("th", { scope: "col" }, "Yours", h("small", {}, "not saved yet")),
            ),
          ),
          h(
            "tbody",
            {},
            places.map((place, at) => row(place, at, settle)),
          ),
        ),
      ),
      h("h2", {}, "What will be saved"),
      result,
      h(
        "div",
        { class: "actions sticky" },
        save,
        h("button", { onclick: () => resolve(mine) }, "Save mine as it is"),
        h("button", { onclick: () => resolve(null) }, "Take theirs, discard mine"),
        state,
      ),
    );
    settle();
    heading.focus();
    announce(summary);
  });
}

function row(place, at, settle) {
  const side = (name) => {
    const value = place[name];
    const words =
      value === undefined ? h("em", {}, "not there") : h("code", {}, h("bdi", {}, visible(brief(value, 160))));
    const isChange = name === "mine" ? !isSame(place.base, place.mine) : !isSame(place.base, place.theirs);
    const radio = h("input", {
      type: "radio",
      name: `place-${at}`,
      checked: place.choice === name,
      onchange: () => {
        place.choice = name;
        line.classList.remove("open");
        settle();
      },
    });
    return h("td", { class: isChange ? "changed" : "" }, h("label", {}, radio, words));
  };
  const note = place.isConflict
    ? h("span", { class: "badge bad" }, "both changed")
    : h("span", { class: "badge" }, place.choice === "mine" ? "you changed" : "they changed");
  const base =
    place.base === undefined ? h("em", {}, "not there") : h("code", {}, h("bdi", {}, visible(brief(place.base, 160))));
  const line = h(
    "tr",
    { class: place.isConflict ? "clash open" : "" },
    h("th", { scope: "row" }, h("bdi", {}, visible(pathText(place.path))), note),
    h("td", { class: "base" }, base),
    side("theirs"),
    side("mine"),
  );
  return line;
}

const isSame = (a, b) => (a === undefined || b === undefined ? a === b : pretty(a) === pretty(b));

function deleted(body, id, mine, resolve) {
  const heading = h("h1", { tabindex: "-1" }, "Somebody deleted this document before you saved");
  show(
    body,
    h(
      "header",
      { class: "head" },
      heading,
      h("p", { class: "lead" }, `${visible(id)} is not there any more. Below is what you wrote.`),
    ),
    source(pretty(mine)),
    h(
      "div",
      { class: "actions sticky" },
      h("button", { class: "primary", onclick: () => resolve(mine) }, "Make it again with my content"),
      h("button", { onclick: () => resolve(null) }, "Leave it deleted"),
    ),
  );
  heading.focus();
  announce(heading.textContent);
}
