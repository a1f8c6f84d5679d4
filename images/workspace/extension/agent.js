// An agent in a terminal: finding the one there is, starting another, typing into it.
"use strict";
const vscode = require("vscode");
const { foreground, isAgent } = require("./processes");
const { Ready } = require("./ready");

const SHELL_MS = 20_000;
const START_MS = 60_000;
const UNKNOWN_MS = 3_000;

class Agent {
  // Terminals in which it is about to be there: true once its screen is up, false when that is not known.
  #starting = new Map();

  constructor(name, program, icon) {
    this.name = name;
    this.program = program;
    this.icon = new vscode.ThemeIcon(icon);
  }

  // Shows the one that runs, else starts one: in the terminal in which it has been quit, if there is that.
  async open() {
    const terminal = (await this.#running()) ?? this.start(await this.#quit());
    terminal.show();
    return terminal;
  }

  // Another one, beside what is open.
  start(terminal) {
    terminal ??= vscode.window.createTerminal({
      name: this.name,
      iconPath: this.icon,
      location: { viewColumn: this.#column() },
    });
    terminal.show();
    const started = this.#run(terminal).catch(() => false);
    this.#starting.set(terminal, started);
    void started.then(() => this.#starting.delete(terminal));
    return terminal;
  }

  // `text` is a function of the directory in which the agent runs.
  async type(text) {
    const terminal = await this.open();
    const ready = await this.#starting.get(terminal);
    const program = await this.#program(terminal);
    if (ready === false || !program) {
      return vscode.window.showInformationMessage(`${this.name} is not ready yet. Try again when it asks what to do.`);
    }
    terminal.sendText(text(program.directory), false);
    terminal.show(); // to go on typing, wherever the focus went meanwhile
  }

  async #running() {
    for (const terminal of this.#terminals()) {
      if (this.#starting.has(terminal) || (await this.#program(terminal))) return terminal;
    }
    return undefined;
  }

  async #quit() {
    for (const terminal of this.#terminals()) {
      const pid = await terminal.processId;
      if (terminal.name === this.name && (await foreground(pid))?.pid === pid) return terminal;
    }
    return undefined;
  }

  // Whoever has the focus comes first, then the newest.
  #terminals() {
    const active = vscode.window.activeTerminal;
    const others = vscode.window.terminals.filter((one) => one !== active).reverse();
    return (active ? [active, ...others] : others).filter((one) => !one.exitStatus);
  }

  // The agent in this terminal, started by whom it may.
  async #program(terminal) {
    const pid = await terminal.processId;
    const program = pid && (await foreground(pid));
    return program && isAgent(program.argv, this.program) ? program : undefined;
  }

  // Where one is already, else beside the editor.
  #column() {
    const group = vscode.window.tabGroups.all.find(({ tabs }) =>
      tabs.some(({ input, label }) => input instanceof vscode.TabInputTerminal && label === this.name),
    );
    return group?.viewColumn ?? vscode.ViewColumn.Beside;
  }

  async #run(terminal) {
    const shell = terminal.shellIntegration ?? (await shellIntegration(terminal));
    if (!shell) {
      // A shell that doesn't tell what it does: nobody knows when the agent is ready.
      terminal.sendText(this.program);
      return after(UNKNOWN_MS);
    }
    const output = shell.executeCommand(this.program).read();
    return Promise.race([ready(output), after(START_MS)]);
  }
}

async function ready(output) {
  const screen = new Ready();
  for await (const piece of output) {
    if (screen.feed(piece)) return true;
  }
  return false;
}

function shellIntegration(terminal) {
  return new Promise((resolve) => {
    const done = (shell) => {
      clearTimeout(timer);
      listener.dispose();
      resolve(shell);
    };
    const listener = vscode.window.onDidChangeTerminalShellIntegration((change) => {
      if (change.terminal === terminal) done(change.shellIntegration);
    });
    const timer = setTimeout(done, SHELL_MS);
  });
}

// False, later.
function after(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds, false));
}

module.exports = { Agent };
