// Headers sort the first body of their table: up, down, then the order of the config again.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const compare = (a, b) => {
    const numbers = [Number(a), Number(b)];
    return numbers.some(Number.isNaN) ? a.localeCompare(b) : numbers[0] - numbers[1];
  };
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const header = button.closest("th");
    const column = header.cellIndex;
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[header.ariaSort ?? "none"];
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.ariaSort = "none";
    header.ariaSort = order;
    const sign = order === "descending" ? -1 : 1;
    const known = original.filter((row) => key(row, column) !== "");
    const unknown = original.filter((row) => key(row, column) === "");
    if (order !== "none") known.sort((a, b) => sign * compare(key(a, column), key(b, column)));
    body.append(...(order === "none" ? original : [...known, ...unknown]));
  });
}
