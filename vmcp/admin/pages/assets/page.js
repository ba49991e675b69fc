// What pages do by themselves: theme, live refresh, filters, copying. The rule: each page can be read without it.
"use strict";
(() => {
  const root = document.documentElement, EVERY = 1500, THEMES = ["system", "light", "dark"];
  const kept = (key, value) => {
    try { return value === undefined ? localStorage.getItem(key) : localStorage.setItem(key, value); } catch { return null; }
  };
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  // theme: before the first paint
  const theme = () => (THEMES.includes(kept("vmcp-theme")) ? kept("vmcp-theme") : "system");
  const dress = () => (theme() === "system" ? delete root.dataset.theme : (root.dataset.theme = theme()));
  dress();

  // filter: every word must be in the row; key:word looks into the cell with that key
  const fits = (row, words) => words.every((word) => {
    const [, key, rest] = /^([a-z_-]+):(.*)$/.exec(word) || [];
    const cell = key && row.querySelector(`[data-key="${key}"]`);
    const where = cell || row;
    return (where.dataset.text || where.textContent).toLowerCase().includes(cell ? rest : word);
  });
  const filter = (field) => {
    const table = document.getElementById(field.dataset.filter);
    if (!table) return;
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = table.tBodies ? [...table.tBodies].flatMap((body) => [...body.rows]) : [...table.children];
    const shown = rows.filter((row) => !(row.hidden = !fits(row, words))).length;
    const told = document.querySelector(`[data-shown="${field.dataset.filter}"]`);
    if (told) told.textContent = words.length ? `${shown} of ${rows.length}` : "";
  };
  const filters = () => all("[data-filter]").forEach(filter);

  // live: one request for all elements of one address
  const tags = new Map(), seen = new WeakMap();
  const still = (element) => element.dataset.pause && document.querySelector(element.dataset.pause)?.checked;
  const atEnd = (each) => each.scrollHeight - each.scrollTop - each.clientHeight < 8;
  const toEnd = (within) => all("[data-end]", within).forEach((each) => { each.scrollTop = each.scrollHeight; });
  const swap = (old, fresh) => {
    if (!fresh || seen.get(old) === fresh.innerHTML) return;
    seen.set(old, fresh.innerHTML);
    const open = new Set(all("details[open][id]", old).map((each) => each.id));
    const known = new Set(all("details[id]", old).map((each) => each.id));
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && (focused.id ? `#${CSS.escape(focused.id)}` : focused.getAttribute("href") && `a[href="${CSS.escape(focused.getAttribute("href"))}"]`);
    const scrolled = all("[id]", old).filter((each) => (each.scrollTop || each.scrollLeft) && !("end" in each.dataset && atEnd(each))).map((each) => [each.id, each.scrollTop, each.scrollLeft]);
    old.replaceChildren(...[...document.importNode(fresh, true).childNodes]);
    all("details[id]", old).forEach((each) => { if (known.has(each.id)) each.open = open.has(each.id); });
    toEnd(old);
    scrolled.forEach(([id, top, left]) => document.getElementById(id)?.scrollTo(left, top));
    if (place) old.querySelector(place)?.focus({ preventScroll: true });
  };
  const fetched = async (url, elements) => {
    const tag = tags.get(url), headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(url, { headers, cache: "no-store", redirect: "error", signal: AbortSignal.timeout(5000) });
    if (answer.status === 401) return location.reload();
    if (answer.status !== 200) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    tags.set(url, answer.headers.get("ETag"));
    elements.forEach((each) => swap(each, fresh.getElementById(each.id)));
    wake();
  };
  const refresh = async () => {
    const wanted = new Map();
    for (const each of all("[data-live]")) {
      if (still(each)) continue;
      const url = each.dataset.live || location.pathname + location.search;
      wanted.set(url, [...(wanted.get(url) || []), each]);
    }
    const lost = document.getElementById("lost");
    try {
      for (const [url, elements] of wanted) await fetched(url, elements);
      if (lost) lost.hidden = true;
    } catch { if (lost && wanted.size) lost.hidden = false; }
  };
  const live = async () => {
    if (document.visibilityState === "visible") await refresh();
    setTimeout(live, EVERY);
  };

  // what needs a script is shown once there is one
  const wake = () => {
    all("[data-needs-script]").forEach((each) => { each.hidden = false; });
    all(".scroll:not([tabindex])").filter((each) => each.scrollWidth > each.clientWidth).forEach((each) => { each.tabIndex = 0; });
    filters();
  };
  const copied = async (button) => {
    const from = button.dataset.copyFrom && document.querySelector(button.dataset.copyFrom);
    const text = from ? (from.value ?? from.textContent) : button.dataset.copy, label = button.textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Not allowed"; }
    setTimeout(() => { button.textContent = label; }, 1500);
  };
  const turned = (button) => {
    kept("vmcp-theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
    dress();
    button.textContent = `Theme: ${theme()}`;
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if ("copy" in button.dataset || "copyFrom" in button.dataset) copied(button);
    if ("themeSwitch" in button.dataset) turned(button);
  });
  document.addEventListener("submit", (event) => {
    const asked = event.target.dataset.confirm;
    if (asked && !confirm(asked)) event.preventDefault();
  });
  document.addEventListener("input", (event) => {
    if (!event.target.dataset.filter) return;
    filter(event.target);
    history.replaceState(null, "", event.target.value ? `#q=${encodeURIComponent(event.target.value)}` : location.pathname + location.search);
  });
  document.addEventListener("keydown", (event) => {
    const field = document.querySelector("[data-filter]");
    if (event.key === "/" && field && !/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) { event.preventDefault(); field.focus(); }
  });
  document.addEventListener("DOMContentLoaded", () => {
    const field = document.querySelector("[data-filter]");
    if (field && location.hash.startsWith("#q=")) {
      try { field.value = decodeURIComponent(location.hash.slice(3)); } catch { /* it was not written by us */ }
    }
    all("[data-theme-switch]").forEach((each) => { each.hidden = false; each.textContent = `Theme: ${theme()}`; });
    all("[data-live]").forEach((each) => seen.set(each, each.innerHTML));
    wake();
    toEnd(document);
    if (document.querySelector("[data-live]")) setTimeout(live, EVERY);
  });
})();
