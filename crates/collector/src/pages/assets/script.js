// Brings a page up to date with what the collector says of it. Without this script a page is whole, and stands still.
"use strict";

(() => {
  const freshness = document.getElementById("freshness");
  const changing = document.getElementById("changing");
  const address = freshness?.dataset.live;
  if (!address || !changing || !window.EventSource) return;

  // The parts as they were last told: what did not change is not touched, nor is what somebody opened or scrolled.
  const told = new Map();
  for (const part of changing.children) told.set(part.id, part.outerHTML);

  const keep = (before, after) => {
    const opened = [...before.querySelectorAll("details")].map((details) => details.open);
    after.querySelectorAll("details").forEach((details, place) => { details.open = opened[place] ?? details.open; });
    const scrolled = [...before.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    return () => after.querySelectorAll(".scroll").forEach((box, place) => { box.scrollLeft = scrolled[place] ?? 0; });
  };

  const refocus = (before, after) => {
    const focused = document.activeElement;
    if (!before.contains(focused)) return () => {};
    const candidates = "a, summary, [tabindex]";
    const place = [...before.querySelectorAll(candidates)].indexOf(focused);
    return () => after.querySelectorAll(candidates)[place]?.focus({ preventScroll: true });
  };

  const update = (html) => {
    const fresh = new DOMParser().parseFromString(html, "text/html").body;
    const parts = [...fresh.children];
    const ids = parts.map((part) => part.id).join();
    if (ids !== [...changing.children].map((part) => part.id).join()) {
      changing.replaceChildren(...parts);
      parts.forEach((part) => told.set(part.id, part.outerHTML));
      return;
    }
    for (const part of parts) {
      const markup = part.outerHTML;
      if (told.get(part.id) === markup) continue;
      told.set(part.id, markup);
      const before = document.getElementById(part.id);
      const scroll = keep(before, part);
      const focus = refocus(before, part);
      before.replaceWith(part);
      scroll();
      focus();
    }
  };

  let heard = 0;
  const say = () => {
    const silent = Math.round((Date.now() - heard) / 1000);
    const text = silent <= 5 ? "Live" : `Nothing heard for ${silent - silent % 5} s: what you see may be old`;
    if (freshness.textContent !== text) freshness.textContent = text;
    freshness.classList.toggle("stale", silent > 5);
  };

  const source = new EventSource(address);
  source.addEventListener("message", (event) => { heard = Date.now(); update(event.data); say(); });
  source.addEventListener("title", (event) => { document.title = `${event.data} – aviary`; });
  source.addEventListener("error", () => { if (heard) say(); });
  setInterval(() => { if (heard) say(); }, 1000);
})();
