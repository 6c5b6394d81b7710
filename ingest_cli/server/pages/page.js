
"use strict";
{
  const { below, job } = document.body.dataset;
  const live = document.getElementById("live"), said = document.getElementById("said");
  const QUIET = 5000, MOST_ROWS = 200;
  let source = null, looking = false, wanted = false, news = { failed: 0, complete: 0 }, announcing = 0;

  function counted(number, noun) {
    return `${number} ${noun}${number === 1 ? "" : "s"}`;
  }

  // The server has escaped what it sends, and the page's policy lets nothing in it run.
  function parsed(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  }

  function replace(old, fresh) {
    const unfolded = old.querySelectorAll("details");
    fresh.querySelectorAll("details").forEach((details, place) => { details.open = unfolded[place]?.open ?? false; });
    if (old.outerHTML === fresh.outerHTML) return;
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    old.replaceWith(fresh);
    if (focused === null) return;
    const same = focused.id ? document.getElementById(focused.id)
      : [...fresh.querySelectorAll("a, button")].find((other) => other.textContent === focused.textContent);
    same?.focus({ preventScroll: true });
  }

  // A look at the whole page: one at a time, and one more where another was wanted meanwhile.
  async function look() {
    if (looking) { wanted = true; return; }
    looking = true;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.ok) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        document.title = fresh.title;
        for (const part of fresh.querySelectorAll("[data-part]")) {
          const old = document.querySelector(`[data-part="${part.dataset.part}"]`);
          if (old !== null) replace(old, document.adoptNode(part));
        }
      }
    } catch {
      live.textContent = "Out of date: the server does not answer";
    }
    setTimeout(() => { looking = false; if (wanted) { wanted = false; look(); } }, 1000);
  }

  function show(change) {
    for (const [state, count] of Object.entries(change.counts)) {
      const number = document.querySelector(`#counts [data-state="${state}"] b`);
      if (number !== null && !location.search.match(/[?&](name|user)=./)) number.textContent = count.toLocaleString("en");
    }
    const all = document.querySelector('#counts [data-state=""] b'), failures = document.getElementById("failures");
    if (all !== null && !location.search.match(/[?&](name|user)=./)) {
      all.textContent = Object.values(change.counts).reduce((sum, count) => sum + count, 0).toLocaleString("en");
    }
    if (failures !== null) replace(failures, parsed(change.failures));
    for (const one of change.jobs) place(one);
  }

  function place(one) {
    const old = document.getElementById(`job-${one.id}`), body = document.querySelector("tbody#jobs");
    const fresh = parsed(one.row);
    if (old !== null) {
      if (old.dataset.state !== one.state) { announce(one.state); fresh.className = "changed"; }
      replace(old, fresh);
      return;
    }
    const params = new URLSearchParams(location.search), state = params.get("state");
    if (params.get("before") || params.get("name") || params.get("user") || (state && state !== one.state)) return;
    if (body === null || body.children.length >= MOST_ROWS) { look(); return; }
    const next = [...body.children].find((row) => Number(row.id.slice(4)) < one.id);
    if (next === undefined) return;
    fresh.className = "changed";
    next.before(fresh);
    announce(one.state);
  }

  // Not every line for those who listen: now and then how much has come to its end.
  function announce(state) {
    if (!(state in news)) return;
    news[state]++;
    announcing ||= setTimeout(() => {
      announcing = 0;
      const words = Object.entries(news).filter(([, count]) => count).map(([word, count]) => `${counted(count, "job")} ${word}`);
      news = { failed: 0, complete: 0 };
      said.textContent = words.join(", ");
    }, QUIET);
  }

  // A browser has few connections to a server: a page that nobody sees needs none.
  function listen() {
    if (document.hidden) {
      source?.close();
      source = null;
      return;
    }
    if (source !== null) return;
    source = new EventSource(`${below}live`);
    source.addEventListener("look", () => { live.textContent = "Live"; look(); });
    source.addEventListener("jobs", (event) => {
      const change = JSON.parse(event.data);
      live.textContent = "Live";
      if (job === undefined) show(change);
      else if (change.jobs.some((one) => one.id === Number(job))) look();
    });
    for (const part of ["plots", "hosts"]) {
      source.addEventListener(part, (event) => {
        const old = document.getElementById(part);
        if (old !== null) replace(old, parsed(JSON.parse(event.data)[part]));
      });
    }
    source.addEventListener("trouble", (event) => { live.textContent = `Out of date: ${JSON.parse(event.data).reason}`; });
    source.addEventListener("error", () => {
      live.textContent = "Out of date: the server does not answer";
      if (source?.readyState !== EventSource.CLOSED) return;
      source = null;
      setTimeout(listen, 15000);
    });
  }

  if (document.body.dataset.live !== undefined) {
    document.addEventListener("visibilitychange", listen);
    listen();
  }
}
