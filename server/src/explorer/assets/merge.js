// Brings two changes of one document together, member by member. Pure functions; asking a person is conflict.js's.
//
// What only one side changed is taken from that side. What both changed to the same is that. What both changed to
// different values is a conflict, and there is nobody but a person to say which of the two is right.

import { same } from "./json.js";

/**
 * Compares three versions. Gives the places at which yours or theirs differs from the base, each as
 * {path, base, mine, theirs, choice, isConflict}: choice is "mine" or "theirs", and for a conflict null until it is made.
 * A value that is not there is undefined. Lists are taken whole.
 */
export function compare(base, mine, theirs, path = []) {
  if (same(base, mine) && same(base, theirs)) return [];
  const isObject = (value) => value?.kind === "object";
  if (isObject(mine) && isObject(theirs) && (isObject(base) || base === undefined)) {
    const maps = [base, theirs, mine].map((value) => new Map(value?.members ?? []));
    const names = new Set(maps.flatMap((map) => [...map.keys()]));
    const [old, other, own] = maps;
    return [...names].flatMap((name) => compare(old.get(name), own.get(name), other.get(name), [...path, name]));
  }
  const isConflict = !same(base, mine) && !same(base, theirs) && !same(mine, theirs);
  const choice = isConflict ? null : same(base, mine) ? "theirs" : "mine";
  return [{ path, base, mine, theirs, choice, isConflict }];
}

/** The document that the choices make. One that is not made yet keeps the base's value. */
export function merged(base, mine, theirs, places) {
  const chosen = (place) => (place.choice === null ? place.base : place[place.choice]);
  const build = (old, own, other, here, depth) => {
    if (here.length === 0) return other ?? own ?? old;
    if (here.length === 1 && here[0].path.length === depth) return chosen(here[0]);
    // The order is theirs, which is what is stored; what is new follows in its own order.
    const maps = [other, own, old].map((value) => new Map(value?.kind === "object" ? value.members : []));
    const names = new Set(maps.flatMap((map) => [...map.keys()]));
    const members = [];
    for (const name of names) {
      const below = here.filter((place) => place.path[depth] === name);
      const [theirOwn, myOwn, oldOwn] = maps.map((map) => map.get(name));
      const value = below.length === 0 ? theirOwn : build(oldOwn, myOwn, theirOwn, below, depth + 1);
      if (value !== undefined) members.push([name, value]);
    }
    return { kind: "object", members };
  };
  return build(base, mine, theirs, places, 0);
}
