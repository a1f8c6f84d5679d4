// What runs in a terminal, by what the kernel says about its foreground process group (proc_pid_stat(5)).
"use strict";
const fs = require("node:fs/promises");
const path = require("node:path");

// Not the interface that a person types into.
const HEADLESS = new Set(["run", "serve", "web", "acp", "-p", "--print"]);

// The process group that reads the terminal's keys, of the text of /proc/PID/stat. The program's name, in brackets, may
// hold anything, brackets and spaces too.
function foregroundGroup(stat) {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const group = Number(fields[5]);
  return Number.isInteger(group) && group > 0 ? group : undefined;
}

// Whether `argv` is the agent's interface: the program itself, or an interpreter with its script.
function isAgent(argv, program) {
  const at = argv.slice(0, 2).findIndex((one) => path.basename(one) === program);
  return at >= 0 && !argv.slice(at + 1).some((one) => HEADLESS.has(one));
}

// Of the terminal whose first process is `pid`: the foreground's process id, command line and directory.
async function foreground(pid) {
  try {
    const group = foregroundGroup(await fs.readFile(`/proc/${pid}/stat`, "utf8"));
    if (!group) return undefined;
    const [argv, directory] = await Promise.all([
      fs.readFile(`/proc/${group}/cmdline`, "utf8"),
      fs.readlink(`/proc/${group}/cwd`),
    ]);
    return { pid: group, argv: argv.split("\0").slice(0, -1), directory };
  } catch {
    return undefined; // it has just ended
  }
}

module.exports = { foreground, foregroundGroup, isAgent };
