// Which of our commands and keys are in force beside the vendors' own extensions.
"use strict";

const OPENCODE = "sst-dev.opencode";
// It has Ctrl+Esc and Ctrl+Shift+Esc for itself.
const CLAUDE_CODE = "anthropic.claude-code";

// `isThere(id)` says whether an extension is installed and switched on. Gives the values of the context keys that
// package.json asks for.
function contexts(isThere) {
  const opencode = isThere(OPENCODE);
  return { "csm.opencode": !opencode, "csm.keys": !opencode && !isThere(CLAUDE_CODE) };
}

module.exports = { CLAUDE_CODE, OPENCODE, contexts };
