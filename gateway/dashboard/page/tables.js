// Tables that change in place: what is the same is left alone, so that focus, selection and screen readers are too.

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A cell is text, or [text, class]. The first of each row is its heading. */
export function fill(table, heads, rows, { caption, empty = "none" } = {}) {
  if (!table.tHead) {
    if (caption) table.append(element("caption", { textContent: caption }));
    table.append(element("thead"), element("tbody"));
  }
  const said = JSON.stringify([heads, rows]);
  if (table.said === said) return;
  table.said = said;
  const head = heads.map((cell) => cellOf("th", cell, "col"));
  table.tHead.replaceChildren(element("tr", {}, ...head));
  const known = new Set([...table.tBodies[0].rows].map((row) => row.dataset.key));
  const made = rows.map((cells) => {
    const key = JSON.stringify(cells.map(textOf));
    const row = element("tr", {}, ...cells.map((cell, place) => (place ? cellOf("td", cell) : cellOf("th", cell, "row"))));
    row.dataset.key = key;
    if (table.dataset.flash !== undefined && known.size && !known.has(key)) row.className = "flash";
    return row;
  });
  if (!made.length) made.push(element("tr", {}, element("td", { colSpan: heads.length, textContent: empty, className: "text" })));
  table.tBodies[0].replaceChildren(...made);
}

const textOf = (cell) => (Array.isArray(cell) ? cell[0] : cell);

function cellOf(name, cell, scope) {
  const made = element(name, { textContent: textOf(cell), className: Array.isArray(cell) ? cell[1] : "" });
  if (scope) made.scope = scope;
  return made;
}
