
"use strict";
// A folder is packed where it lies: its files are hashed, and the bundle is made of them as it is sent. Nothing of it is
// kept here, and nothing is copied.
const IDS = ["submitter", "project", "instrument"], LAST_SAID = `ingest ids ${location.pathname}`;
const DESCRIPTION = ".ingest.json", READ = 4 << 20, AT_ONCE = 8, SHOWN_EVERY = 200, MOST_NAMED = 5;
const FIRST_SECOND = -62135596800, LAST_SECOND = 253402300799;  // those that a document can name
const LITTER = new RegExp(`^(?:${JSON.parse(section.dataset.litter).map(asExpression).join("|")})$`, "i");

function asExpression(glob) {
  return glob.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
}

function listed(names) {
  const shown = names.slice(0, MOST_NAMED).join(", "), more = names.length - MOST_NAMED;
  return more > 0 ? `${shown}, and ${more.toLocaleString("en")} more` : shown;
}

function plural(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

const lastSaid = () => JSON.parse(localStorage.getItem(LAST_SAID) ?? section.dataset.ids);

// What there is in a folder: its files by their names, what is left out by the reasons, and what cannot be read.
class Content {
  files = new Map();
  leftOut = new Map();
  unreadable = [];

  // Where it was dropped: all that is in it is seen.
  static async of(entry) {
    const content = new Content();
    await content.#walk(entry, "");
    return content;
  }

  // Where it was chosen: the browser tells of files alone, and of each by its path from the folder on.
  static ofFiles(files) {
    const content = new Content();
    for (const file of files) {
      const parts = file.webkitRelativePath.split("/").slice(1);
      const known = parts.findIndex((_, last) => content.#leaves(parts.slice(0, last + 1).join("/")));
      if (known < 0) content.files.set(parts.join("/"), file);
    }
    return content;
  }

  async #walk(entry, name) {
    if (name && this.#leaves(name)) return;
    try {
      if (entry.isFile) {
        this.files.set(name, await new Promise((resolve, reject) => entry.file(resolve, reject)));
        return;
      }
      const reader = entry.createReader();
      let isEmpty = true;
      for (;;) {  // they come some at a time
        const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
        if (!some.length) break;
        isEmpty = false;
        await Promise.all(some.map((child) => this.#walk(child, name ? `${name}/${child.name}` : child.name)));
      }
      if (isEmpty) this.#leave("empty folder", `${name}/`);
    } catch {
      this.unreadable.push(name || entry.name);
    }
  }

  #leaves(name) {
    const isLitter = LITTER.test(name.split("/").pop());
    if (isLitter) this.#leave("system file", name);
    return isLitter;
  }

  #leave(reason, name) {
    this.leftOut.set(reason, (this.leftOut.get(reason) ?? new Set()).add(name));
  }

  // What stands in the folder of whom and what it is. That file is no part of it.
  async described() {
    const file = this.files.get(DESCRIPTION);
    if (file === undefined) return {};
    this.files.delete(DESCRIPTION);
    this.#leave("description of the folder", DESCRIPTION);
    const said = JSON.parse(await file.text());
    if (said.exclude?.length) throw new Refused(`its ${DESCRIPTION} leaves files out, which a page does not: send it by 'ingest upload'`);
    return said;
  }

  get bytes() {
    return [...this.files.values()].reduce((sum, file) => sum + file.size, 0);
  }

  get problem() {
    const odd = [...this.files.keys()].filter((name) => !(name.isWellFormed?.() ?? true));
    if (this.unreadable.length) return `cannot be read: ${listed(this.unreadable)}`;
    if (odd.length) return `names that are not text: ${listed(odd)}`;
    return this.files.size ? "" : "there are no files in it";
  }

  get notes() {
    return [...this.leftOut].map(([reason, names]) => `${plural(names.size, reason)} left out: ${listed([...names])}`);
  }
}

class Folder {
  constructor(name) {
    this.name = name;
    this.stopped = false;
    this.words = make("span", "is looked at", { class: "quiet" });
    this.item = make("li", "");
    this.item.append(make("b", name), this.words);
    list.append(this.item);
  }

  // See what is in it, and ask of whom and what it is.
  async ask(finding) {
    try {
      this.content = await finding;
      const said = await this.content.described();
      if (this.content.problem) throw new Refused(this.content.problem);
      this.keys = Object.entries(said.keys ?? {}).flatMap(([key, values]) => [values].flat().map((value) => [key, value]));
      this.summary = `${plural(this.content.files.size, "file")}, ${size(this.content.bytes)}`;
      this.show({ ...lastSaid(), ...said });
    } catch (error) {
      this.fail(error instanceof SyntaxError ? new Refused(`its ${DESCRIPTION} is not JSON`) : error);
    }
  }

  show(ids) {
    this.words.textContent = this.summary;
    const fields = IDS.map((id) => make("input", "", {
      name: id, value: ids[id] ?? "", required: "", autocomplete: "off", ...(id === "project" ? {} : { inputmode: "numeric", pattern: "[0-9]+" }),
    }));
    const labels = fields.map((field) => {
      const label = make("label", "");
      label.append(make("span", `${field.name[0].toUpperCase()}${field.name.slice(1)}`), field);
      return label;
    });
    const form = make("form", "", { "aria-label": `Of whom and what ${this.name} is` });
    const drop = make("button", "Cancel", { type: "button", "aria-label": `Cancel the upload of ${this.name}` });
    form.append(...labels, make("button", "Send", { "aria-label": `Send ${this.name}` }), drop);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send(Object.fromEntries(fields.map((field) => [field.name, field.value.trim()])));
    });
    drop.addEventListener("click", () => { this.item.remove(); directory.focus(); });
    this.item.append(...this.content.notes.map((note) => make("p", note, { class: "quiet" })), form);
    said.textContent = `${this.name}: ${this.summary}. ${this.content.notes.join(". ")}`;
    (fields.find((field) => !field.value) ?? form.querySelector("button")).focus();
  }

  send(ids) {
    localStorage.setItem(LAST_SAID, JSON.stringify(ids));
    this.ids = ids;
    this.read = this.shown = 0;
    this.bar = make("progress", "", { max: Math.max(1, this.content.bytes), value: 0, "aria-label": `reading of ${this.name}` });
    const button = make("button", "Stop", { type: "button", "aria-label": `Stop the upload of ${this.name}` });
    button.addEventListener("click", () => { this.stopped = true; });
    this.words.textContent = "waits";
    this.item.replaceChildren(make("b", this.name), this.bar, this.words, button);
    button.focus();
    enqueue(this);
  }

  async run() {
    try {
      const [bundle, digest] = await this.pack();
      const upload = new Upload(bundle, `ingest ${location.pathname} ${this.name} ${digest}`);
      this.replaceBy(upload.item);
      await upload.run();
    } catch (error) {
      this.fail(error);
    }
  }

  // The bundle, and the digest of its document, by which it is known again.
  async pack() {
    const parts = [], records = this.records(), hashes = await this.hashes();
    let position = 0;
    for (const [name, file] of [...this.content.files].sort(([one], [other]) => (one < other ? -1 : 1))) {
      const seconds = Math.min(Math.max(Math.floor(file.lastModified / 1000), FIRST_SECOND), LAST_SECOND);
      records.push(recordOf(name, file, seconds, hashes.get(name)));
      const member = tarMember(`data/${name}`, file.size, seconds, file, position);
      position = member.reduce((end, part) => end + (part.size ?? part.length), position);
      parts.push(...member);
    }
    const document = inBytes(`[${records.map((record) => JSON.stringify(record)).join(", ")}]`), known = new Sha1();
    known.update(document);
    parts.push(...tarMember("metadata.txt", document.length, 0, document, position), tarEnd());
    return [new File(parts, this.name), known.hex()];
  }

  // Of all files: some are read at once, since a browser takes its time to begin with each.
  async hashes() {
    const hashes = new Map(), left = this.content.files.entries();
    const some = async () => { for (const [name, file] of left) hashes.set(name, await this.hash(name, file)); };
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, some));
    } finally {
      this.stopped = true;
    }
    return hashes;
  }

  async hash(name, file) {
    const sha1 = new Sha1();
    for (let start = 0; start < file.size; start += READ) {
      if (this.stopped) throw new Stopped();
      const part = file.size <= READ ? file : file.slice(start, start + READ);  // a slice of its own takes its time too
      const piece = await part.arrayBuffer().catch(() => { throw new Refused(`${name} ${CHANGED}`); });
      sha1.update(new Uint8Array(piece));
      this.showRead(piece.byteLength);
    }
    return sha1.hex();
  }

  showRead(bytes) {
    this.read += bytes;
    if (performance.now() < this.shown + SHOWN_EVERY) return;
    this.shown = performance.now();
    this.bar.value = this.read;
    this.words.textContent = `${size(this.read)} of ${size(this.content.bytes)} read`;
  }

  records() {
    const number = (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : text);
    const values = IDS.map((id) => ({ destinationTable: `Transactions.${id}`, value: id === "project" ? this.ids[id] : number(this.ids[id]) }));
    return [...values, ...this.keys.map(([key, value]) => ({ destinationTable: "TransactionKeyValue", key, value }))];
  }

  replaceBy(item) {
    const focused = this.item.contains(document.activeElement);
    item.append(...this.content.notes.map((note) => make("p", note, { class: "quiet" })));
    this.item.replaceWith(item);
    if (focused) item.querySelector("button").focus();
  }

  fail(error) {
    const focused = this.item.contains(document.activeElement);
    const word = error instanceof Stopped ? make("span", "stopped", { class: "discarded" }) : make("span", error.message, { class: "failed" });
    this.item.replaceChildren(make("b", this.name), word);
    if (focused) directory.focus();
    said.textContent = `${this.name}: ${word.textContent}`;
  }
}

function recordOf(path, file, seconds, hashsum) {
  const folders = path.split("/"), name = folders.pop(), when = new Date(seconds * 1000).toISOString().slice(0, 19);
  return {
    destinationTable: "Files", name, subdir: ["data", ...folders].join("/"), size: file.size, hashtype: "sha1", hashsum,
    mimetype: /^[\w.+-]+\/[\w.+-]+$/.test(file.type) ? file.type : "application/octet-stream", ctime: when, mtime: when,
  };
}

directory.addEventListener("change", () => {
  const files = [...directory.files];
  directory.value = "";
  if (files.length) new Folder(files[0].webkitRelativePath.split("/")[0]).ask(Content.ofFiles(files));
});
