// Which terminal an agent runs in, and when it is ready for keys.
"use strict";
const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { test } = require("node:test");
const { foreground, foregroundGroup, isAgent } = require("../../images/workspace/extension/processes");
const { Ready } = require("../../images/workspace/extension/ready");

test("the foreground group is found whatever the program is called", () => {
  const rest = "S 13286 13287 13287 34816 4711 4194304 114724";
  assert.equal(foregroundGroup(`13287 (bash) ${rest}`), 4711);
  assert.equal(foregroundGroup(`13287 (a) b (c) ${rest}`), 4711);
  assert.equal(foregroundGroup("1 (init) S 0 1 1 0 -1 4194560"), undefined);
  assert.equal(foregroundGroup(""), undefined);
});

test("an agent is its interface for people, not its other uses", () => {
  const opencode = [
    ["opencode"],
    ["/usr/local/bin/opencode", "--port", "4096"],
    ["node", "/home/coder/.local/bin/opencode"],
    ["opencode", "-c"],
    ["opencode", "attach", "http://127.0.0.1:4096"],
  ];
  for (const argv of opencode) assert.ok(isAgent(argv, "opencode"), argv.join(" "));
  const others = [
    [],
    ["bash"],
    ["opencode", "run", "text"],
    ["opencode", "serve"],
    ["vim", "notes/opencode.md"],
    ["git", "log", "opencode"],
    ["opencode-other"],
  ];
  for (const argv of others) assert.ok(!isAgent(argv, "opencode"), argv.join(" "));
  assert.ok(isAgent(["/usr/local/libexec/claude"], "claude"));
  assert.ok(!isAgent(["claude", "-p", "text"], "claude"));
});

test("the foreground of a real terminal is read, and of a process that is gone nothing", async () => {
  // script(1) gives its child a terminal.
  const child = spawn("script", ["-qec", "echo $$; exec sleep 60", "/dev/null"], { cwd: "/", stdio: ["pipe", "pipe", "ignore"] });
  try {
    const pid = await new Promise((resolve) => child.stdout.once("data", (text) => resolve(Number.parseInt(text, 10))));
    let found = await foreground(pid);
    for (let n = 0; n < 100 && found?.argv[0] !== "sleep"; n++) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      found = await foreground(pid);
    }
    assert.deepEqual(found, { pid, argv: ["sleep", "60"], directory: "/" });
  } finally {
    child.kill();
  }
  await new Promise((resolve) => child.once("close", resolve));
  assert.equal(await foreground(child.pid), undefined);
});

test("ready is a cursor in the program's own screen, however the output is cut", () => {
  const output = "\x1b[?25h$ opencode\r\n\x1b[?25l\x1b[?1049h\x1b[?2004hdrawing\x1b[?25lAsk\x1b[?25h";
  for (let size = 1; size <= output.length; size++) {
    const screen = new Ready();
    let answer = false;
    for (let at = 0; at < output.length; at += size) {
      assert.ok(!answer, `ready too early with pieces of ${size}`);
      answer = screen.feed(output.slice(at, at + size));
    }
    assert.ok(answer, `not ready with pieces of ${size}`);
  }
  assert.ok(!new Ready().feed("\x1b[?25h a shell's cursor, no screen"));
});
