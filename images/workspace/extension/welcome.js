// The welcome page: opens by itself until it has been closed once, and whenever somebody asks for it.
"use strict";
const fs = require("node:fs/promises");
const crypto = require("node:crypto");
const path = require("node:path");
const vscode = require("vscode");

const SHOWN_MS = 10_000;
const RETRIES = 3;

// What its links may do.
const COMMANDS = [
  "csm.opencode.open",
  "csm.claude.open",
  "csm.signOut",
  "csm.welcome.close",
  "workbench.action.terminal.new",
  "workbench.view.explorer",
];

class Welcome {
  #panel;
  #closed;

  constructor(context) {
    // A file in the home, because what VS Code itself remembers is one browser's.
    this.#closed = path.join(context.globalStorageUri.fsPath, "welcome-closed");
  }

  async onFirstVisit() {
    try {
      await fs.access(this.#closed);
    } catch (error) {
      // A home that can't be read is no first visit.
      if (error.code === "ENOENT") void this.show();
    }
  }

  async show() {
    if (this.#panel) return this.#panel.reveal();
    await this.#open(await page(), RETRIES);
  }

  close() {
    this.#panel?.dispose();
  }

  async #open(html, retries) {
    const panel = vscode.window.createWebviewPanel("csm.welcome", "Welcome", vscode.ViewColumn.Active, {
      enableCommandUris: COMMANDS,
      enableFindWidget: true,
      enableScripts: true,
      localResourceRoots: [],
    });
    this.#panel = panel;
    const shown = new Promise((resolve) => {
      panel.webview.onDidReceiveMessage(() => resolve(true));
      setTimeout(resolve, SHOWN_MS, false);
    });
    panel.onDidDispose(() => {
      if (this.#panel !== panel) return;
      this.#panel = undefined;
      void this.#remember();
    });
    panel.webview.html = html;
    // VS Code's page around ours sometimes waits for a service worker that is there already, and stays empty for ever.
    if (!(await shown) && this.#panel === panel && panel.visible && retries > 0) {
      this.#panel = undefined;
      panel.dispose();
      await this.#open(html, retries - 1);
    }
  }

  async #remember() {
    await fs.mkdir(path.dirname(this.#closed), { recursive: true });
    await fs.writeFile(this.#closed, "");
  }
}

// Nothing is fetched, and all that runs in it says that it is there.
async function page() {
  const [html, css] = await Promise.all(["welcome.html", "welcome.css"].map((name) => fs.readFile(path.join(__dirname, name), "utf8")));
  const nonce = crypto.randomBytes(16).toString("base64");
  return html.replaceAll("{{NONCE}}", nonce).replace("{{STYLE}}", () => css);
}

module.exports = { Welcome };
