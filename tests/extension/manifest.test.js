// What package.json promises and the code keeps: commands, keys, and who steps aside for whom.
"use strict";
const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { test } = require("node:test");
const { CLAUDE_CODE, OPENCODE, contexts } = require("../../images/workspace/extension/vendors");

const ROOT = path.join(__dirname, "../../images/workspace");
const read = (name) => fs.readFileSync(path.join(ROOT, name), "utf8");
const { contributes } = JSON.parse(read("extension/package.json"));
const declared = new Set(contributes.commands.map(({ command }) => command));

test("with a vendor's extension ours have no keys, with opencode's they aren't offered either", () => {
  const among = (...ids) => contexts((id) => ids.includes(id));
  assert.deepEqual(among(), { "csm.opencode": true, "csm.keys": true });
  assert.deepEqual(among("someone.else"), { "csm.opencode": true, "csm.keys": true });
  assert.deepEqual(among(OPENCODE), { "csm.opencode": false, "csm.keys": false });
  assert.deepEqual(among(CLAUDE_CODE), { "csm.opencode": true, "csm.keys": false });
  assert.deepEqual(among(OPENCODE, CLAUDE_CODE), { "csm.opencode": false, "csm.keys": false });
});

test("keys depend on a context that only we set, so that none is bound before we have looked", () => {
  for (const { key, when } of contributes.keybindings) assert.equal(when, "csm.keys", key);
  for (const [menu, items] of Object.entries(contributes.menus)) {
    for (const { command, when } of items) {
      assert.ok(declared.has(command), `${menu}: ${command}`);
      assert.match(when, /^csm\.opencode\b/, `${menu}: ${command}`);
    }
  }
});

test("every command that is declared, bound or linked to is registered", () => {
  const code = read("extension/extension.js");
  const used = [...declared, ...contributes.keybindings.map(({ command }) => command)];
  const links = [...read("extension/welcome.html").matchAll(/href="command:([^"]+)"/g)].map(([, command]) => command);
  assert.ok(links.length > 3);
  for (const command of [...used, ...links].filter((one) => one.startsWith("csm."))) {
    assert.ok(code.includes(`"${command}":`), command);
  }
  for (const link of links) assert.ok(read("extension/welcome.js").includes(`"${link}"`), `${link} is not allowed on the page`);
});

test("the keys reach the editor from a terminal too", () => {
  const skip = JSON.parse(read("editor-defaults.json"))["terminal.integrated.commandsToSkipShell"];
  for (const { command } of contributes.keybindings) assert.ok(skip.includes(command), command);
});
