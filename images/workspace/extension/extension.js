// The workspace image's own part of the editor: keys for opencode, and a welcome page. This file only ties the others to
// VS Code; what they decide without it is in reference.js, processes.js, vendors.js and ready.js (tests/extension).
"use strict";
const vscode = require("vscode");
const { Agent } = require("./agent");
const { control, reference } = require("./reference");
const vendors = require("./vendors");
const { Welcome } = require("./welcome");

const opencode = new Agent("opencode", "opencode", "robot");
const claude = new Agent("Claude Code", "claude", "sparkle");

function activate(context) {
  const welcome = new Welcome(context);
  const commands = {
    "csm.opencode.open": () => opencode.open(),
    "csm.opencode.new": () => opencode.start(),
    "csm.opencode.reference": insertReference,
    "csm.claude.open": () => claude.open(),
    "csm.welcome": () => welcome.show(),
    "csm.welcome.close": () => welcome.close(),
    "csm.signOut": signOut,
  };
  for (const [name, run] of Object.entries(commands)) {
    context.subscriptions.push(vscode.commands.registerCommand(name, run));
  }
  context.subscriptions.push(vscode.extensions.onDidChange(stepAside), rememberEditor());
  stepAside();
  return welcome.onFirstVisit();
}

// Whoever has installed a vendor's own extension gets that one's keys, not both.
function stepAside() {
  const keys = vendors.contexts((id) => vscode.extensions.getExtension(id) !== undefined);
  for (const [name, value] of Object.entries(keys)) {
    void vscode.commands.executeCommand("setContext", name, value);
  }
}

// While the terminal has the focus no text editor is the active one.
let lastEditor = vscode.window.activeTextEditor;
function rememberEditor() {
  return vscode.window.onDidChangeActiveTextEditor((editor) => {
    lastEditor = editor ?? lastEditor;
  });
}

async function insertReference() {
  const visible = vscode.window.visibleTextEditors;
  const editor = vscode.window.activeTextEditor ?? (visible.includes(lastEditor) ? lastEditor : visible[0]);
  if (editor?.document.uri.scheme !== "file") {
    return vscode.window.showInformationMessage("Open a saved file first, and select the lines that you mean.");
  }
  const file = editor.document.uri.fsPath;
  if (control(file)) {
    return vscode.window.showErrorMessage("The name of this file holds control characters; they are not typed into a terminal.");
  }
  await opencode.type((directory) => reference(file, directory ?? folder(), editor.selection));
}

function folder() {
  return vscode.workspace.workspaceFolders?.[0]?.uri.fsPath ?? "/";
}

// Where the browser sees this workspace, only the browser knows.
async function signOut() {
  const here = await vscode.env.asExternalUri(vscode.Uri.parse(`${vscode.env.uriScheme}://code-server-multi.workspace/`));
  await vscode.env.openExternal(here.with({ path: "/_csm/sign-out", query: "", fragment: "" }));
}

module.exports = { activate };
