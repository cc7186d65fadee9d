"use strict";
// The opacity of all maps, and points of pictures by mouse, finger or keyboard.
(() => {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const within = (share) => Math.min(Math.max(share, 0), 0.9999);
  let waiting = null; // the side that was asked by keyboard: its picture will be another element

  const ask = (view, x, y) => {
    const detail = { side: view.dataset.side, x: within(x), y: within(y) };
    view.dispatchEvent(new CustomEvent("fam-point", { bubbles: true, detail }));
  };

  const pointer = (view) => {
    let mark = view.querySelector(".fam-pointer");
    if (!mark) {
      mark = document.createElement("i");
      mark.className = "fam-pointer";
      mark.dataset.x = mark.dataset.y = 0.5;
      view.append(mark);
    }
    return mark;
  };

  const place = (mark, x, y) => {
    mark.dataset.x = within(x);
    mark.dataset.y = within(y);
    mark.style.left = `${100 * mark.dataset.x}%`;
    mark.style.top = `${100 * mark.dataset.y}%`;
  };

  document.addEventListener("input", (event) => {
    if (event.target.id !== "fam-opacity") return;
    document.documentElement.style.setProperty("--fam-opacity", event.target.value / 100);
    event.target.nextElementSibling.textContent = `${event.target.value} %`;
  });

  document.addEventListener("click", (event) => {
    const view = event.target.closest?.(".fam-view[data-side]");
    if (!view) return;
    const box = view.getBoundingClientRect();
    ask(view, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  });

  document.addEventListener("keydown", (event) => {
    const view = event.target.closest?.(".fam-view[data-side]");
    if (!view) return;
    const mark = pointer(view);
    const [x, y] = [Number(mark.dataset.x), Number(mark.dataset.y)];
    const step = steps[event.key];
    if (step) {
      place(mark, x + step[0] / 14, y + step[1] / 14);
    } else if (event.key === "Enter" || event.key === " ") {
      waiting = { side: view.dataset.side, x, y };
      ask(view, x, y);
    } else {
      return;
    }
    event.preventDefault();
  });

  new MutationObserver(() => {
    if (!waiting || document.activeElement !== document.body) return;
    const view = document.querySelector(`.fam-view[data-side="${waiting.side}"]`);
    if (!view) return;
    view.focus();
    place(pointer(view), waiting.x, waiting.y);
    waiting = null;
  }).observe(document, { childList: true, subtree: true });
})();
