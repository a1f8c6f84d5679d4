// What Alt+Ctrl+K types.
"use strict";
const assert = require("node:assert/strict");
const { test } = require("node:test");
const { control, reference } = require("../../images/workspace/extension/reference");

const PROJECT = "/home/coder/project";
const at = (line, character) => ({ line, character });
const nothing = { start: at(4, 2), end: at(4, 2) };

test("lines count from one, and a selection up to the next line's beginning leaves that line out", () => {
  const cases = [
    [nothing, "@src/a.js "],
    [{ start: at(36, 0), end: at(36, 9) }, "@src/a.js#L37 "],
    [{ start: at(36, 4), end: at(41, 1) }, "@src/a.js#L37-42 "],
    [{ start: at(36, 0), end: at(42, 0) }, "@src/a.js#L37-42 "],
    [{ start: at(36, 0), end: at(37, 0) }, "@src/a.js#L37 "],
    [{ start: at(0, 0), end: at(0, 1) }, "@src/a.js#L1 "],
  ];
  for (const [selection, wanted] of cases) {
    assert.equal(reference(`${PROJECT}/src/a.js`, PROJECT, selection), wanted, JSON.stringify(selection));
  }
});

test("a file is named as the agent sees it from its directory", () => {
  const cases = [
    [`${PROJECT}/a.js`, PROJECT, "@a.js "],
    [`${PROJECT}/a.js`, `${PROJECT}/`, "@a.js "],
    [`${PROJECT}/deep/er/a b.js`, `${PROJECT}/deep`, "@er/a b.js "],
    [`${PROJECT}/..hidden/a`, PROJECT, "@..hidden/a "],
    ["/etc/hosts", PROJECT, "@/etc/hosts "],
    [`${PROJECT}-other/a.js`, PROJECT, `@${PROJECT}-other/a.js `],
    ["/etc/hosts", "/", "@etc/hosts "],
  ];
  for (const [file, directory, wanted] of cases) assert.equal(reference(file, directory, nothing), wanted);
});

test("a name that would press keys is told from others", () => {
  for (const name of ["a\nb", "a\rb", "\u001b[200~", "a\u007f", "a\u009bb", "\t"]) assert.ok(control(name), JSON.stringify(name));
  for (const name of ["a b", "käse.txt", "日本", "a#L1", "@a"]) assert.ok(!control(name), name);
});
