// What moves: figures of the drawings and the charts. Asks for them a few times a second while the page is seen.
"use strict";
(() => {
  const LIVE_MS = 500, SOON_MS = 50, SERIES_MS = 1000, ANNOUNCE_MS = 5000, SUMMARY_MS = 5000, SOCKET_MS = 1000, UNCONNECTED_LOOKS = 4;
  const OLD_SECONDS = 10, KEPT_SECONDS = 900;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  const escaped = (text) => text.replace(/[&<>"]/g, (one) => `&#${one.charCodeAt(0)};`);
  const setText = (node, text) => { if (node && node.textContent !== text) node.textContent = text; };

  class Lost extends Error {}
  async function ask(path) {
    const answer = await fetch(path, { cache: "no-store" }).catch((error) => { throw new Lost(error.message); });
    if (!answer.ok) throw new Lost(`${path}: ${answer.status}`);
    return answer;
  }
  const read = async (path) => (await ask(path)).json();

  // A request is only made when the last one was answered; none while nobody sees the page, or has it yet.
  function every(milliseconds, selector, work) {
    const turn = async () => {
      const there = one(selector) !== null;
      if (there && !document.hidden) await work().catch(unread);
      setTimeout(turn, there ? milliseconds : SOON_MS);
    };
    turn();
  }
  // The page may be in a container, on another host or behind a tunnel: what to start, only who started it knows.
  function unread(error) {
    if (!(error instanceof Lost)) { console.error(error); return; }
    lost("The server of this page does not answer, so nothing here moves. It goes on by itself once it does.");
  }
  // In steps, since it is read aloud each time that it changes.
  function old(age) {
    const ago = age < 60 ? `${10 * Math.floor(age / 10)} s` : "a minute";
    lost(age < OLD_SECONDS ? "" : `Nothing new has been read: these figures are of more than ${ago} ago.`);
  }
  function lost(words) { setText(one("#lost"), words); }

  // The figures come by plain requests, but buttons and forms work through NiceGUI's socket, and with some browsers even
  // its scripts are asked for with an Origin: a forwarder may pass one that the page refuses, or no WebSocket at all.
  let unconnected = 0;
  function watchSocket() {
    unconnected = window.socket?.connected ? 0 : unconnected + 1;
    if (!unconnected) refused("");
    else if (unconnected % UNCONNECTED_LOOKS === 0 && !document.hidden) askWhy().catch(() => {}); // nobody there: the figures say so
  }
  async function askWhy() {
    // A browser does not tell a script why a socket was refused. This is refused for the same reason, in words: unlike
    // a GET of our own page, a POST has an Origin, too.
    const answer = await fetch("/live.json", { method: "POST", cache: "no-store" });
    if (!unconnected || (answer.status !== 403 && !window.socket)) return;
    refused(answer.status === 403 ? await answer.text() : "what is between this browser and the page lets no WebSocket through.");
  }
  // The frame of the page need not be there: it is made by those scripts. NiceGUI says then that the browser is too old.
  function refused(reason) {
    if (reason && !one("#refused")) {
      one("#esm-fallback")?.remove();
      document.body.insertAdjacentHTML("beforeend", '<p id="refused" class="lost" role="alert"></p>');
    }
    setText(one("#refused"), reason && `This page does not work here, because its socket is refused: ${reason.trim()}`);
  }

  // X-ray.
  const seconds = (s) => s >= 1 ? `${s.toPrecision(3)} s` : s >= 1e-3 ? `${(s * 1e3).toPrecision(3)} ms` : `${Math.round(s * 1e6)} µs`;
  const known = new Map(), announced = { at: 0, waiting: [] };
  let summarised = 0;

  async function live() {
    const { models, age } = await read("/live.json");
    old(age);
    const summarise = Date.now() - summarised > SUMMARY_MS;
    if (summarise) summarised = Date.now();
    for (const [model, now] of Object.entries(models ?? {})) {
      // What goes wrong with one is no reason to show old figures of the others.
      for (const card of all("[data-model]")) if (card.dataset.model === model) await show(card, model, now, summarise).catch(unread);
      tell(model, now);
    }
    announce();
  }

  async function show(card, model, now, summarise) {
    card.classList.remove("waiting");
    card.classList.toggle("down", !now.up);
    card.classList.toggle("troubled", Boolean(now.trouble));
    setText(one("[data-words]", card), now.up ? now.words : "");
    setText(one("[data-trouble]", card), now.trouble ? `⚠ ${now.trouble}` : "");
    setText(one("[data-problem]", card), now.up ? "" : `${model} does not answer (${now.problem}). ${now.remedy}.`);
    if (!now.up) { rest(card); return; }
    const drawing = one("[data-drawing-of]", card);
    if (drawing.dataset.key !== now.drawing) {
      const answer = await ask(`/drawing/${encodeURIComponent(model)}`);
      if (answer.status === 204) return; // it has gone down since: the next turn says so
      drawing.innerHTML = await answer.text();
      drawing.dataset.key = now.drawing;
    }
    for (const part of all("[data-part]", drawing)) dress(part, now.looks[part.dataset.part]);
    for (const flow of all("[data-flow]", drawing)) {
      const speed = now.flows[flow.dataset.flow];
      if (speed) flow.dataset.speed = speed; else flow.removeAttribute("data-speed");
    }
    stages(card, now.stages);
    if (summarise) setText(one("[data-summary]", card), `${model}: ${now.summary}`);
  }

  // Of a model that is down nothing is known: figures of before would be read as those of now.
  function rest(card) {
    for (const flow of all("[data-flow]", card)) flow.removeAttribute("data-speed");
    for (const part of all("[data-part]", card)) dress(part, [0, "", []]);
    setText(one("[data-summary]", card), "");
  }

  function dress(part, look) {
    if (!look) return;
    const [level, state, texts] = look;
    if (level !== null) part.style.setProperty("--level", level);
    const dressed = `part ${state}`;
    if (part.getAttribute("class") !== dressed) part.setAttribute("class", dressed);
    all("text", part).forEach((text, place) => setText(text, texts[place] ?? ""));
  }

  function stages(card, shares) {
    const total = Object.values(shares).reduce((sum, share) => sum + share, 0);
    setText(one("[data-total]", card), total ? seconds(total) : "–");
    for (const share of all("[data-share]", card)) share.style.flexGrow = total ? (shares[share.dataset.share] ?? 0) / total : 0;
    for (const row of all("[data-stage]", card)) {
      const share = shares[row.dataset.stage];
      row.hidden = !share;
      if (share) setText(one("b", row), seconds(share));
    }
  }

  // Said once when something begins or ends, and never more often than a listener can take.
  function tell(model, now) {
    const state = now.up ? now.trouble : "does not answer";
    const before = known.get(model);
    known.set(model, state);
    if (before !== undefined && before !== state) announced.waiting.push(`${model}: ${state || "all is well again"}`);
  }
  function announce() {
    if (!announced.waiting.length || Date.now() - announced.at < ANNOUNCE_MS) return;
    setText(one("#announce"), announced.waiting.slice(-3).join(". "));
    announced.at = Date.now();
    announced.waiting = [];
  }

  // Compare.
  const NS = "http://www.w3.org/2000/svg", WIDTH = 600, HEIGHT = 240, LEFT = 78, RIGHT = 8, TOP = 10, BOTTOM = 26;
  const shown = { span: 60, off: new Set(), names: [], moments: [] };
  const units = { s: seconds, "×": (v) => `${v.toPrecision(3)}`, "/s": (v) => short(v), "": (v) => short(v) };
  const short = (v) => v >= 1e6 ? `${(v / 1e6).toPrecision(3)}M` : v >= 1e4 ? `${(v / 1e3).toPrecision(3)}k` : v >= 100 || Number.isInteger(v) ? `${Math.round(v)}` : v.toPrecision(2);

  async function series() {
    const last = shown.moments.at(-1)?.[0] ?? 0;
    const { names, moments, age } = await read(`/series.json?since=${last}`);
    old(age);
    shown.names = names;
    shown.moments.push(...moments);
    const oldest = (shown.moments.at(-1)?.[0] ?? 0) - KEPT_SECONDS;
    shown.moments.splice(0, shown.moments.findIndex(([at]) => at >= oldest));
    redraw();
  }

  function redraw() {
    const end = shown.moments.at(-1)?.[0] ?? 0;
    const seen = shown.moments.filter(([at]) => at >= end - shown.span);
    for (const chart of all("[data-series]")) plot(chart, seen, end);
    const latest = shown.moments.at(-1)?.[1] ?? {};
    for (const cell of all("[data-cell]")) {
      const [model, name] = cell.dataset.cell.split(" ");
      const value = latest[model]?.[shown.names.indexOf(name)];
      const unit = name === "p50" || name === "p99" ? "s" : ["jain", "imbalance", "tail"].includes(name) ? "×" : "";
      setText(cell, value === null || value === undefined ? "–" : (name === "jain" ? value.toFixed(2) : units[unit](value)) + (name === "tail" ? "×" : ""));
      cell.classList.toggle("bad", name === "drops" && value > 0);
    }
  }

  function nice(top) {
    const power = 10 ** Math.floor(Math.log10(top));
    return [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= top);
  }

  function plot(figure, seen, end) {
    const svg = one("svg", figure), place = shown.names.indexOf(figure.dataset.series), unit = units[figure.dataset.unit];
    const lines = Object.keys(seen.at(-1)?.[1] ?? {}).filter((model) => !shown.off.has(model));
    let top = 0;
    for (const [, figures] of seen) for (const model of lines) top = Math.max(top, figures[model]?.[place] ?? 0);
    top = nice(top * 1.02 || 1);
    const x = (at) => LEFT + (WIDTH - LEFT - RIGHT) * (1 - (end - at) / shown.span);
    const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      parts.push(`<path class="grid" d="M${LEFT},${y(top * share)}H${WIDTH - RIGHT}"/><text class="tick" text-anchor="end" x="${LEFT - 8}" y="${y(top * share) + 5}">${unit(top * share)}</text>`);
      const ago = shown.span * (1 - share);
      parts.push(`<text class="tick" text-anchor="${share === 1 ? "end" : share ? "middle" : "start"}" x="${x(end - ago)}" y="${HEIGHT - 6}">${ago ? (ago >= 120 ? `−${ago / 60} min` : `−${ago} s`) : "now"}</text>`);
    }
    for (const model of lines) {
      let path = "", pen = "M";
      for (const [at, figures] of seen) {
        const value = figures[model]?.[place];
        if (value === null || value === undefined) { pen = "M"; continue; }
        path += `${pen}${x(at).toFixed(1)},${y(value).toFixed(1)}`;
        pen = "L";
      }
      if (path) parts.push(`<path class="line ${escaped(model)}" d="${path}"/>`);
    }
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.innerHTML = parts.join("");
  }

  function press(button, group) {
    for (const other of group) other.setAttribute("aria-pressed", String(other === button));
  }
  document.addEventListener("click", ({ target }) => {
    const key = target.closest?.("[data-key].key"), span = target.closest?.("[data-span]");
    if (key) {
      const off = !shown.off.delete(key.dataset.key);
      if (off) shown.off.add(key.dataset.key);
      key.setAttribute("aria-pressed", String(!off));
    }
    if (span) { press(span, all("[data-span]")); shown.span = Number(span.dataset.span); }
    if (key || span) redraw();
  });

  // Dark or light: what was chosen last, else what the system says.
  window.lab = {
    theme(dark = !document.body.classList.contains("body--dark")) {
      window.Quasar?.Dark.set(dark);
      localStorage.setItem("lab-dark", String(dark));
    },
    // Into the drawer that its button has opened, not one that opens because the window was turned; and back to the
    // button, unless the focus is elsewhere already.
    enter(drawer, button) {
      if (document.activeElement?.id === button) one("input, button", document.getElementById(drawer))?.focus();
    },
    leave(drawer, button) {
      const focus = document.activeElement;
      if (focus === document.body || document.getElementById(drawer)?.contains(focus)) document.getElementById(button)?.focus();
    },
  };
  const chosen = localStorage.getItem("lab-dark");
  if (chosen) {
    const wait = setInterval(() => { if (window.Quasar?.Dark && document.querySelector(".lab-header")) { clearInterval(wait); window.lab.theme(chosen === "true"); } }, 50);
  }

  setInterval(watchSocket, SOCKET_MS);
  every(LIVE_MS, "[data-model]", live);
  every(SERIES_MS, "[data-series]", series);
})();
