
"use strict";
// SHA-1 of what comes piece by piece: the browser's own takes only what it has whole, and only over TLS.
class Sha1 {
  #state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0);
  #words = new Int32Array(80);
  #block = new Uint8Array(64);
  #length = 0;

  update(bytes) {
    const held = this.#length % 64;
    this.#length += bytes.length;
    let start = 0;
    if (held > 0) {
      start = Math.min(64 - held, bytes.length);
      this.#block.set(bytes.subarray(0, start), held);
      if (held + start < 64) return;
      this.#mix(this.#block, 0);
    }
    for (; start + 64 <= bytes.length; start += 64) this.#mix(bytes, start);
    this.#block.set(bytes.subarray(start));
  }

  // Of all that has come; nothing more may come then.
  hex() {
    const length = this.#length, padding = new Uint8Array((length % 64 < 56 ? 64 : 128) - length % 64);
    const bits = new DataView(padding.buffer);
    padding[0] = 0x80;
    bits.setUint32(padding.length - 8, Math.floor(length / 2 ** 29));
    bits.setUint32(padding.length - 4, length * 8 % 2 ** 32);
    this.update(padding);
    return [...this.#state].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  }

  // As FIPS 180-4 has it.
  #mix(bytes, start) {
    const words = this.#words;
    for (let t = 0, at = start; t < 16; t++, at += 4) {
      words[t] = bytes[at] << 24 | bytes[at + 1] << 16 | bytes[at + 2] << 8 | bytes[at + 3];
    }
    for (let t = 16; t < 80; t++) {
      const word = words[t - 3] ^ words[t - 8] ^ words[t - 14] ^ words[t - 16];
      words[t] = word << 1 | word >>> 31;
    }
    const state = this.#state;
    let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (let t = 0; t < 20; t++) {
      const next = (a << 5 | a >>> 27) + (b & c | ~b & d) + e + 0x5a827999 + words[t] | 0;
      e = d; d = c; c = b << 30 | b >>> 2; b = a; a = next;
    }
    for (let t = 20; t < 40; t++) {
      const next = (a << 5 | a >>> 27) + (b ^ c ^ d) + e + 0x6ed9eba1 + words[t] | 0;
      e = d; d = c; c = b << 30 | b >>> 2; b = a; a = next;
    }
    for (let t = 40; t < 60; t++) {
      const next = (a << 5 | a >>> 27) + (b & c | b & d | c & d) + e - 0x70e44324 + words[t] | 0;
      e = d; d = c; c = b << 30 | b >>> 2; b = a; a = next;
    }
    for (let t = 60; t < 80; t++) {
      const next = (a << 5 | a >>> 27) + (b ^ c ^ d) + e - 0x359d3e2a + words[t] | 0;
      e = d; d = c; c = b << 30 | b >>> 2; b = a; a = next;
    }
    state[0] = state[0] + a | 0; state[1] = state[1] + b | 0; state[2] = state[2] + c | 0;
    state[3] = state[3] + d | 0; state[4] = state[4] + e | 0;
  }
}
