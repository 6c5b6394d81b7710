
"use strict";
// Parts of a tar (POSIX ustar, with pax headers for what that cannot say): of these a Blob is made, which reads the
// files where they lie.
const BLOCK = 512, LARGEST = 8 ** 11 - 1;
// Large files begin where a block of a disk does, so that an archive can share their bytes: comments fill up the headers.
const SHARED_BLOCK = 4096, SHARED_FROM = 64 << 10, COMMENT = `${"256 comment=".padEnd(255)}\n`;
const inBytes = (text) => new TextEncoder().encode(text);

// A file of so many bytes, modified at so many seconds since 1970; it comes at this position of the tar.
function tarMember(name, size, seconds, content, position) {
  const records = [];
  if (!/^[ -~]{1,100}$/.test(name)) records.push(paxRecord("path", name));
  if (size > LARGEST) records.push(paxRecord("size", size));
  if (seconds < 0 || seconds > LARGEST) records.push(paxRecord("mtime", seconds));
  if (size >= SHARED_FROM) records.push(COMMENT.repeat(missing(position, inBytes(records.join("")).length) / COMMENT.length));
  const told = inBytes(records.join(""));
  const ahead = told.length ? [tarHeader("pax", told.length, 0, "x"), told, padding(told.length)] : [];
  return [...ahead, tarHeader(name, size, seconds, "0"), content, padding(size)];
}

// How many bytes of comments a file takes that has so many in an extended header.
function missing(position, told) {
  const headers = told ? 2 * BLOCK + told + padding(told).length : BLOCK;
  const left = (SHARED_BLOCK - (position + headers) % SHARED_BLOCK) % SHARED_BLOCK;
  // An extended header that was none before has a block of its own.
  return left && !told ? left - BLOCK || SHARED_BLOCK : left;
}

const tarEnd = () => new Uint8Array(2 * BLOCK);

function padding(size) {
  return new Uint8Array((BLOCK - size % BLOCK) % BLOCK);
}

function tarHeader(name, size, seconds, type) {
  const header = new Uint8Array(BLOCK);
  const put = (text, at) => header.set(inBytes(text), at);
  const number = (value, digits) => `${(value >= 0 && value < 8 ** digits ? value : 0).toString(8).padStart(digits, "0")}\0`;
  put(name.replace(/[^ -~]/g, "?").slice(0, 100), 0);
  put(number(0o644, 7) + number(0, 7) + number(0, 7) + number(size, 11) + number(seconds, 11) + " ".repeat(8) + type, 100);
  put("ustar\0" + "00", 257);
  put(number(0, 7) + number(0, 7), 329);
  put(`${number(header.reduce((sum, byte) => sum + byte, 0), 6)} `, 148);
  return header;
}

// It begins with its own length, that of this number with it.
function paxRecord(key, value) {
  const rest = ` ${key}=${value}\n`, length = inBytes(rest).length;
  let whole = length + 1;
  while (length + `${whole}`.length !== whole) whole = length + `${whole}`.length;
  return whole + rest;
}
