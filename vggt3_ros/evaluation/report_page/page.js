"use strict";

// Tables: a click on a title sorts by it, numbers by their value, empty cells last.
for (const table of document.querySelectorAll("table.sortable")) {
  const titles = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    const exact = cell.dataset.value ?? cell.querySelector("[data-value]")?.dataset.value;
    return exact === undefined ? cell.textContent : Number(exact);
  };
  const compare = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  titles.forEach((title, column) => {
    title.addEventListener("click", () => {
      const falling = title.getAttribute("aria-sort") === "ascending";
      const rows = [...table.tBodies[0].rows].sort((a, b) => compare(key(a, column), key(b, column)));
      if (falling) rows.reverse();
      titles.forEach((other) => other.removeAttribute("aria-sort"));
      title.setAttribute("aria-sort", falling ? "descending" : "ascending");
      table.tBodies[0].append(...rows);
    });
  });
}

// Loops: the one that is pointed at, or that was clicked, shows its two images.
const section = document.getElementById("loops");
const told = document.getElementById("loop-data");
if (told !== null) {
  const loops = JSON.parse(told.textContent);
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const drawing = section.querySelector("svg.pairs");
  const lines = [...drawing.querySelectorAll(".loop")];
  let held = null;

  const show = (number) => {
    for (const chosen of section.querySelectorAll(".chosen")) chosen.classList.remove("chosen");
    const loop = loops[number];
    const text = document.getElementById("pair-text");
    text.textContent = loop === undefined ? "No loop is chosen." : loop.text;
    for (const side of ["source", "target"]) {
      const image = document.getElementById(`pair-${side}`);
      const caption = image.nextElementSibling;
      const url = loop === undefined ? undefined : pictures[loop[side]];
      if (url === undefined) image.removeAttribute("src");
      else image.src = url;
      image.alt = loop === undefined ? "" : `keyframe ${loop[side]}`;
      caption.textContent = loop === undefined ? "" : `keyframe ${loop[side]}${url === undefined ? ": no image here" : ""}`;
    }
    if (loop === undefined) return;
    for (const chosen of section.querySelectorAll(`[data-loop="${number}"]`)) chosen.classList.add("chosen");
  };
  const point = (number) => show(number ?? held);
  const hold = (number) => {
    held = number;
    show(held);
  };

  // The line next to the pointer, within reach: lines are thin.
  const reach = 12;
  const nearest = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    let best = null;
    let least = reach;
    for (const line of lines) {
      if (section.classList.contains(`without-${line.classList[1]}`)) continue;
      const [x1, y1, x2, y2] = ["x1", "y1", "x2", "y2"].map((name) => Number(line.getAttribute(name)));
      const [dx, dy] = [x2 - x1, y2 - y1];
      const along = Math.min(1, Math.max(0, ((at.x - x1) * dx + (at.y - y1) * dy) / (dx * dx + dy * dy || 1)));
      const away = Math.hypot(at.x - x1 - along * dx, at.y - y1 - along * dy);
      if (away < least) [best, least] = [Number(line.dataset.loop), away];
    }
    return best;
  };
  drawing.addEventListener("pointermove", (event) => point(nearest(event)));
  drawing.addEventListener("pointerleave", () => point(null));
  drawing.addEventListener("click", (event) => hold(nearest(event)));
  for (const row of section.querySelectorAll("#loop-table tbody tr")) {
    const number = Number(row.dataset.loop);
    row.addEventListener("pointerenter", () => point(number));
    row.addEventListener("pointerleave", () => point(null));
    row.addEventListener("click", () => hold(number));
    row.addEventListener("focus", () => hold(number));
  }
  for (const box of section.querySelectorAll("input[data-kind]")) {
    box.addEventListener("change", () => {
      section.classList.toggle(`without-${box.dataset.kind}`, !box.checked);
    });
  }
  const first = section.querySelector("#loop-table tbody tr");
  if (first !== null) hold(Number(first.dataset.loop));
}
