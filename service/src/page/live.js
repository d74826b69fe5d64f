// Replaces the numbers of the status page every five seconds, and asks before what cannot be taken
// back. The page works without this.
"use strict";
const note = document.getElementById("live");

function set(place, text) {
  // Only what changed, so that a selection stays.
  if (place.textContent !== text) place.textContent = text;
}

function show(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  for (const [place, row] of rows.entries()) {
    const line = body.rows[place] ?? body.insertRow();
    if (line.cells.length !== row.values.length + 1) {
      const name = document.createElement("th");
      name.scope = "row";
      line.replaceChildren(name, ...row.values.map(() => document.createElement("td")));
    }
    line.className = row.alarm ? "bad" : "";
    [row.name, ...row.values].forEach((text, cell) => set(line.cells[cell], text));
  }
}

function head(table, columns) {
  if (columns.length === 0) return table.deleteTHead();
  if (table.tHead) return;
  const line = table.createTHead().insertRow();
  line.insertCell();
  for (const column of columns) {
    const name = document.createElement("th");
    name.scope = "col";
    name.textContent = column;
    line.append(name);
  }
}

async function refresh() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const { sections } = await answer.json();
    const tables = document.querySelectorAll("table.live");
    sections.forEach((section, place) => {
      head(tables[place], section.columns);
      show(tables[place].tBodies[0], section.rows);
    });
    note.textContent = "live, " + new Date().toLocaleTimeString();
    note.className = "";
    note.removeAttribute("role");
  } catch {
    note.className = "bad";
    // Said once by a screen reader, unlike the time.
    note.setAttribute("role", "alert");
    set(note, "the service does not answer; the numbers are old");
  }
}

if (note) setInterval(refresh, 5000);
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});
