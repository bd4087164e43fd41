// What a page of tables does better with a script. It runs after app.js, of which it uses `every` and `put`.
"use strict";

// Times in the zone of the browser, with the device's beside them where it is another one.

every("time", each => {
  const when = new Date(each.dateTime), own = when.toLocaleString("sv-SE");
  if (isNaN(when) || each.textContent.includes(own)) return;
  const yours = put(each, "span", each.closest("[data-yours]").dataset.yours.replace("{time}", own), {className: "yours"});
  each.before(yours, " ");
});

// A table that becomes a list on a phone stays a table for a screen reader, in browsers that go by its look.

const roles = {TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TH: "columnheader", TD: "cell"};
every(".rows, .rows *", each => roles[each.tagName] && each.setAttribute("role", roles[each.tagName]));

// What is folded away is printed, too.

addEventListener("beforeprint", () => every("details:not([open])", each => each.open = each.dataset.printed = true));
addEventListener("afterprint", () => every("[data-printed]", each => each.open = delete each.dataset.printed && false));

// While a person types a code elsewhere, the page looks what became of it. It is loaded anew when there is news and not each time:
// a screen reader would begin at the top again. These looks are no use of the session, which ends as if the page was closed.

every("[data-refreshes]", place => setInterval(async () => {
  const answer = await fetch(`${location.pathname}?refresh`).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (page.querySelector("[data-phase]")?.dataset.phase !== place.dataset.phase) location.reload();
  place.querySelector("#left")?.replaceWith(page.querySelector("#left"));
}, place.dataset.refreshes * 1000));
