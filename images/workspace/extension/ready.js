// When a program that has taken the whole screen is ready for keys: as soon as it shows the cursor in its own screen. Keys
// that come earlier are lost.
"use strict";

const SCREEN = "\x1b[?1049h";
const CURSOR = "\x1b[?25h";

class Ready {
  #seen = "";
  #screen = false;

  // Takes the next piece of output; true once the program is ready.
  feed(piece) {
    this.#seen += piece;
    if (!this.#screen) this.#screen = this.#skip(SCREEN);
    return this.#screen && this.#seen.includes(CURSOR);
  }

  // Up to and with `sequence`, which may arrive in two pieces.
  #skip(sequence) {
    const at = this.#seen.indexOf(sequence);
    this.#seen = at < 0 ? this.#seen.slice(1 - sequence.length) : this.#seen.slice(at + sequence.length);
    return at >= 0;
  }
}

module.exports = { Ready };
