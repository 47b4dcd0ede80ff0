// Keeps a page live: asks for the same page again and changes only what differs, so that focus, text that is typed and
// the place on the page stay. Without this script the page asks for itself every few seconds.
"use strict";
(() => {
  // Children are told apart by data-key where they have one; what says data-keep belongs to a script or to a person.
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) return void old.replaceWith(fresh);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if ("keep" in old.dataset) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const keyed = new Map();
    for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
    let at = old.firstChild;
    for (const want of [...fresh.childNodes]) {
      const key = want.dataset?.key;
      const have = key ? keyed.get(key) : at;
      if (!have || (!key && at.dataset?.key)) {
        old.insertBefore(want, at);
      } else {
        if (have === at) at = at.nextSibling;
        else old.insertBefore(have, at);
        morph(have, want);
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  const main = document.querySelector("main[data-live]");
  const said = document.getElementById("live");
  const pause = document.getElementById("pause");
  if (!main || !said || !pause) return;
  let paused = false;
  let shown = "";

  function say(text, kind) {
    if (said.textContent !== text) said.textContent = text;
    said.className = kind;
  }

  async function turn() {
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(5000) });
      const text = await answer.text();
      if (paused) return;
      if (text !== shown) {
        const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
        if (!fresh) return;
        morph(main, document.adoptNode(fresh));
        shown = text;
      }
      say(answer.ok ? "Live" : "Trouble", answer.ok ? "" : "away");
      // a page that has nothing more to tell says so by leaving the mark out
      if (!("live" in main.dataset)) say("Final", "paused");
      document.dispatchEvent(new Event("fleet:turn"));
    } catch {
      say("No answer", "away");
    }
  }

  async function run() {
    if (!paused && !document.hidden) await turn();
    if ("live" in main.dataset) setTimeout(run, Number(main.dataset.live));
  }

  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    say(paused ? "Paused" : "Live", paused ? "paused" : "");
  });
  said.hidden = pause.hidden = false;
  say("Live", "");
  setTimeout(run, Number(main.dataset.live));
})();
