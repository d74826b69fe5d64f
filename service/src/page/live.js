// Replaces the numbers of the status page every five seconds. The page works without this.
"use strict";
const note = document.getElementById("live");
async function refresh() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store" });
    if (!answer.ok) throw new Error(String(answer.status));
    const values = await answer.json();
    const places = document.querySelectorAll("td[id^='v-']");
    if (places.length !== Object.keys(values).length) {
      // Rows came or went: only a new page has them. Not while somebody fills in a form.
      if (!document.querySelector("input:focus")) location.reload();
      return;
    }
    for (const place of places) place.textContent = values[place.id];
    note.textContent = "live, " + new Date().toLocaleTimeString();
    note.className = "";
  } catch (error) {
    note.textContent = "the service does not answer; the numbers are old";
    note.className = "bad";
  }
}
if (note) setInterval(refresh, 5000);
