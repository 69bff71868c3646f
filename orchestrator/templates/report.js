"use strict";
// Sorts and filters the rows of tables; the page reads without it.
for (const box of document.querySelectorAll(".table")) {
  const body = box.querySelector("tbody");
  const heads = [...box.querySelectorAll("th")];
  const key = (row, column) => {
    const cell = row.cells[column];
    return "key" in cell.dataset ? (cell.dataset.key === "" ? NaN : Number(cell.dataset.key)) : cell.textContent;
  };
  const order = (a, b, down) => {
    if (typeof a === "string") return (down ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // empty ones last
    return down ? b - a : a - b;
  };
  if (body.rows.length > 1) heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("n") ? "descending" : "ascending";
      const other = first === "descending" ? "ascending" : "descending";
      const now = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", now);
      const rows = [...body.rows].map((row) => [key(row, column), row]);
      rows.sort((a, b) => order(a[0], b[0], now === "descending"));
      body.append(...rows.map((pair) => pair[1]));
    });
  });
  const input = box.querySelector("input");
  if (input) input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    box.querySelector("output").textContent = words.length ? `${shown} of ${body.rows.length} rows` : "";
  });
}
