// Shows the steps of a test mail as they happen. Without it the same form shows the same, as one page at the end.
"use strict";
const button = document.querySelector("[formaction='/smtp/test']"), form = button?.form;
const lost = "The connection to the device was lost, so the test has no result. Please try again.";
let plain = false;

form?.addEventListener("submit", event => {
  if (event.submitter !== button || plain) return;
  event.preventDefault();
  test();
});

function put(parent, name, text, more) {
  const made = Object.assign(document.createElement(name), {textContent: text}, more);
  parent.append(made);
  return made;
}

async function test() {
  const body = new URLSearchParams(new FormData(form));
  const buttons = form.querySelectorAll("button");
  const place = document.getElementById("test");
  place.textContent = "";
  const box = put(place, "section", "", {className: "card"});
  const head = put(box, "h2", "The test is running. It takes a minute at most.", {id: "test-result", tabIndex: -1});
  const steps = put(box, "ol", "", {className: "steps"});
  box.setAttribute("aria-labelledby", head.id);
  head.focus();
  buttons.forEach(each => each.disabled = true);
  let ended = false;
  try {
    const answer = await fetch("/smtp/test", {method: "POST", body, headers: {Accept: "application/x-ndjson"}});
    plain = !answer.headers.get("Content-Type").startsWith("application/x-ndjson");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = "", part; !plain && !(part = await reader.read()).done;) {
      const lines = (rest + part.value).split("\n");
      rest = lines.pop();
      for (const line of lines) ended = show(JSON.parse(line), box, head, steps) || ended;
    }
  } catch {
    plain = false;
  }
  buttons.forEach(each => each.disabled = false);
  if (plain) form.requestSubmit(button);
  else if (!ended) head.textContent = lost;
}

// One line of the device; true when it is the last.
function show({step, result, problem}, box, head, steps) {
  if (step) {
    const item = put(steps, "li", "✓ ");
    put(item, "b", step.label);
    item.append(` ${step.time} `);
    put(item, "span", step.told);
    return false;
  }
  head.textContent = problem || result.sentence;
  if (!result) return true;
  const {failed, reply, advice, field, recipients, hint} = result;
  if (failed) put(steps, "li", "✗ " + failed, {className: "error"});
  if (reply) put(box, "p", `The server answered: “${reply}”`);
  if (advice && field) put(put(box, "p", ""), "a", advice, {href: "#" + field});
  else if (advice) put(box, "p", advice);
  if (recipients.length) {
    const list = put(box, "ul", "");
    recipients.forEach(each => put(list, "li", each));
  }
  if (hint) put(box, "p", hint);
  put(box, "p", "The test saves nothing.", {className: "help"});
  return true;
}
