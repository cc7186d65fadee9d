"use strict";
// Filters, the order and the opacity of the maps; without it the page shows all pairs as written.
(() => {
  const get = (id) => document.getElementById(id);
  const list = get("pairs");
  const filters = get("filters");
  const [text, validity, least, most, order] =
    ["text", "validity", "least", "most", "order"].map(get);

  const plain = (value) => value.normalize("NFC").toLowerCase();
  const cards = Array.from(list.children, (element) => ({
    element,
    index: Number(element.dataset.index),
    score: element.dataset.score === "" ? NaN : Number(element.dataset.score),
    valid: element.dataset.valid,
    words: plain(Array.from(element.querySelectorAll("bdi"), (e) => e.textContent).join("\n")),
  }));

  const matches = (card, words) =>
    words.every((word) => card.words.includes(word)) &&
    (!validity.value || card.valid === validity.value) &&
    // Without a score, a pair is in no range.
    (Number.isNaN(least.valueAsNumber) || card.score >= least.valueAsNumber) &&
    (Number.isNaN(most.valueAsNumber) || card.score <= most.valueAsNumber);

  // Pairs without a score come last, whichever way.
  const byScore = (sign) => (a, b) =>
    Number.isNaN(a.score) - Number.isNaN(b.score) ||
    (a.score === b.score || Number.isNaN(a.score) ? a.index - b.index : sign * (a.score - b.score));
  const orders = {
    store: (a, b) => a.index - b.index,
    highest: byScore(-1),
    lowest: byScore(1),
  };

  const apply = () => {
    const words = plain(text.value).split(/\s+/).filter(Boolean);
    const shown = cards.filter((card) => matches(card, words)).sort(orders[order.value]);
    // Taken out, not hidden: hiding many costs browsers seconds under content-visibility.
    const elements = document.createDocumentFragment();
    for (const card of shown) elements.append(card.element);
    list.replaceChildren(elements);
    const all = cards.length.toLocaleString("en");
    const noun = cards.length === 1 ? "pair" : "pairs";
    const part = shown.length === cards.length ? "" : `${shown.length.toLocaleString("en")} of `;
    get("shown").textContent = `${part}${all} ${noun}`;
    get("none").hidden = shown.length > 0;
  };

  const opacity = get("opacity");
  const rule = get("maps").sheet.cssRules[0]; // one rule, not a property that every element inherits
  const setOpacity = () => {
    rule.style.opacity = opacity.value / 100;
    get("opacity-value").textContent = `${opacity.value} %`;
    opacity.setAttribute("aria-valuetext", `${opacity.value} % opaque`);
  };

  filters.addEventListener("input", apply);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(apply)); // the fields change after the event
  opacity.addEventListener("input", setOpacity);
  // A browser may have kept what was set before a reload.
  setOpacity();
  const kept = [text, validity, least, most].some((field) => field.value);
  if (kept || order.value !== list.dataset.order) apply();
})();
