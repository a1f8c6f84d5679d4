// The text that points an agent at lines of a file: `@src/main.rs#L37-42 `.
"use strict";
const path = require("node:path");

// Typed into a terminal they would be keys: a line feed sends the prompt off.
function control(file) {
  return /[\u0000-\u001f\u007f-\u009f]/.test(file);
}

// `file` as seen from `directory`, or its whole path if it isn't below; with the lines of `selection`, if any. Lines and
// columns count from 0 in VS Code, from 1 in the text. The space at the end closes the agent's own list of files.
function reference(file, directory, selection) {
  const below = path.relative(directory, file);
  const outside = below === "" || below === ".." || below.startsWith(`..${path.sep}`);
  return `@${outside ? file : below}${lines(selection)} `;
}

function lines({ start, end }) {
  if (start.line === end.line && start.character === end.character) return "";
  const first = start.line + 1;
  // Whole lines are selected up to the beginning of the next one.
  const last = end.character === 0 && end.line > start.line ? end.line : end.line + 1;
  return first === last ? `#L${first}` : `#L${first}-${last}`;
}

module.exports = { control, reference };
