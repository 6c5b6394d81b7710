
"use strict";
// What is here is used by folder.js as well.
const below = document.body.dataset.below, section = document.getElementById("upload");
const list = section.querySelector("ul"), said = document.getElementById("said");
const input = document.getElementById("bundles"), directory = document.getElementById("directory");
const TUS = { "Tus-Resumable": "1.0.0" }, PIECE = 32 << 20, LONGEST_WAIT = 30000;
const CHANGED = "cannot be read, or has changed since it was chosen";
const queue = [];
let sending = false;

class Refused extends Error {}
class Away extends Error {}
class Stopped extends Error {}

function size(bytes) {
  if (bytes < 1000) return `${bytes} byte${bytes === 1 ? "" : "s"}`;
  const units = ["kB", "MB", "GB", "TB", "PB"];
  let step = -1;
  for (; bytes >= 1000 && step < units.length - 1; step++) bytes /= 1000;
  return `${bytes.toFixed(1)} ${units[step]}`;
}

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text.replace(/\p{C}/gu, "\uFFFD");
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function encoded(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text.toWellFormed?.() ?? text)));
}

// A request that can be watched while its body is sent, and stopped.
function request(upload, method, url, headers, body) {
  return new Promise((resolve, reject) => {
    const asked = upload.asked = new XMLHttpRequest();
    asked.open(method, url);
    for (const [name, value] of Object.entries({ ...TUS, ...headers })) asked.setRequestHeader(name, value);
    asked.upload.addEventListener("progress", (event) => upload.show(upload.offset + event.loaded));
    asked.addEventListener("load", () => resolve(asked));
    asked.addEventListener("error", async () => reject(await isReadable(body) ? new Away("the server does not answer") : new Refused(CHANGED)));
    asked.addEventListener("abort", () => reject(new Stopped()));
    asked.send(body ?? null);
  });
}

// A browser says of a body that it cannot read what it says of a server that it cannot reach.
async function isReadable(body) {
  return (await body?.arrayBuffer().catch(() => null)) !== null;
}

function reason(asked) {
  try {
    return JSON.parse(asked.responseText).message;
  } catch {
    return `the server answered ${asked.status}`;
  }
}

class Upload {
  // What was begun before this page was loaded is resumed, where it has the same key.
  constructor(file, key = `ingest ${location.pathname} ${file.name} ${file.size} ${file.lastModified}`) {
    this.file = file;
    this.key = key;
    this.offset = 0;
    this.stopped = false;
    this.bar = make("progress", "", { max: Math.max(1, file.size), value: 0, "aria-label": `upload of ${file.name}` });
    this.words = make("span", "waits", { class: "quiet" });
    this.button = make("button", "Stop", { type: "button", "aria-label": `Stop the upload of ${file.name}` });
    this.button.addEventListener("click", () => this.stop());
    this.item = make("li", "");
    this.item.append(make("b", file.name), this.bar, this.words, this.button);
  }

  get place() {
    return `${below}files/${localStorage.getItem(this.key)}`;
  }

  show(sent) {
    this.bar.value = sent;
    const seconds = (performance.now() - this.begun) / 1000;
    const rate = seconds > 1 ? `, ${size((sent - this.first) / seconds)}/s` : "";
    this.words.textContent = `${size(sent)} of ${size(this.file.size)}${rate}`;
  }

  stop() {
    this.stopped = true;
    this.asked?.abort();
    this.wake?.();
  }

  async run() {
    let failures = 0;
    for (;;) {
      const before = this.offset;
      try {
        const job = await this.send();
        localStorage.removeItem(this.key);
        return this.ended("", make("a", `sent as job ${job}`, { href: `${below}jobs/${job}` }));
      } catch (error) {
        if (this.stopped) return this.drop();
        if (!(error instanceof Away)) return this.ended("failed", make("span", error.message));
        failures = this.offset > before ? 0 : failures + 1;
        this.words.textContent = `${error.message}; tried again soon`;
        await new Promise((resolve) => { this.wake = resolve; setTimeout(resolve, Math.min(LONGEST_WAIT, 500 * 2 ** failures)); });
        if (this.stopped) return this.drop();
      }
    }
  }

  async send() {
    let job = await this.begin();
    this.first = this.offset;
    this.begun = performance.now();
    while (job === null) {
      const piece = this.file.slice(this.offset, this.offset + PIECE);
      const headers = { "Content-Type": "application/offset+octet-stream", "Upload-Offset": this.offset };
      job = this.took(await request(this, "PATCH", this.place, headers, piece));
    }
    return job;
  }

  // The job, where all is there already.
  async begin() {
    if (localStorage.getItem(this.key) !== null) {
      const asked = await request(this, "HEAD", this.place, {});
      if (![403, 404, 410].includes(asked.status)) return this.took(asked);
      localStorage.removeItem(this.key);
    }
    const said = { "Upload-Length": this.file.size, "Upload-Metadata": `filename ${encoded(this.file.name)}` };
    const asked = await request(this, "POST", `${below}files`, said);
    if (asked.status === 201) localStorage.setItem(this.key, asked.getResponseHeader("Location").split("/").pop());
    return this.took(asked);
  }

  took(asked) {
    // Not enough room, too many at once, another request that still ends, or a place that was lost.
    if ([409, 423, 460].includes(asked.status) || asked.status >= 500) throw new Away(reason(asked));
    if (asked.status >= 300) throw new Refused(reason(asked));
    this.offset = Number(asked.getResponseHeader("Upload-Offset"));
    this.show(this.offset);
    return asked.getResponseHeader("Ingest-Job-Id");
  }

  async drop() {
    if (localStorage.getItem(this.key) !== null) {
      await request(this, "DELETE", this.place, {}).catch(() => {});
      localStorage.removeItem(this.key);
    }
    this.ended("discarded", make("span", "stopped"));
  }

  ended(state, word) {
    const known = document.activeElement === this.button;
    word.className = state;
    this.item.replaceChildren(make("b", this.file.name), word, ...this.item.querySelectorAll("p"));
    if (known) (this.item.querySelector("a") ?? input).focus();
    said.textContent = `${this.file.name}: ${word.textContent}`;
  }
}

async function sendAll() {
  if (sending) return;
  sending = true;
  while (queue.length) await queue.shift().run();
  sending = false;
}

function enqueue(sender) {
  queue.push(sender);
  sendAll();
}

function add(files) {
  for (const file of files) {
    const upload = new Upload(file);
    list.append(upload.item);
    enqueue(upload);
  }
}

addEventListener("dragover", (event) => {
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  section.classList.add("over");
});
addEventListener("dragleave", (event) => { if (event.relatedTarget === null) section.classList.remove("over"); });
addEventListener("drop", (event) => {
  section.classList.remove("over");
  if (![...event.dataTransfer.types].includes("Files")) return;
  event.preventDefault();
  const files = [];
  for (const item of [...event.dataTransfer.items].filter((item) => item.kind === "file")) {
    const entry = item.webkitGetAsEntry?.();
    if (entry?.isDirectory) new Folder(entry.name).ask(Content.of(entry));
    else files.push(item.getAsFile());
  }
  add(files);
});
input.addEventListener("change", () => { add([...input.files]); input.value = ""; });
addEventListener("beforeunload", (event) => { if (sending) event.preventDefault(); });
section.hidden = false;
