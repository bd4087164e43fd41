// A test mail, step by step as it happens. app.js loads this module when a test is made; it uses `put` and `wait` of app.js.

// Show the test of what a form holds; false when the device answers with a page, which the form can show.
export async function test(form, place) {
  const body = new URLSearchParams(new FormData(form));
  place.textContent = "";
  const box = put(place, "section", "", {className: "card"});
  const head = put(box, "h2", place.dataset.running, {id: "test-result", tabIndex: -1});
  const bar = put(box, "progress", "", {max: place.dataset.steps, value: 0});
  const steps = put(box, "ol", "", {className: "steps"});
  box.setAttribute("aria-labelledby", head.id);
  bar.setAttribute("aria-labelledby", head.id);
  head.focus();
  wait();
  let ended = false;
  try {
    const answer = await fetch("/smtp/test", {method: "POST", body, headers: {Accept: "application/x-ndjson"}});
    if (!answer.headers.get("Content-Type").startsWith("application/x-ndjson")) return false;
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = "", part; !(part = await reader.read()).done;) {
      const lines = (rest + part.value).split("\n");
      rest = lines.pop();
      for (const line of lines) ended = show(JSON.parse(line), box, head, steps) || ended;
      bar.value = steps.children.length;
    }
  } catch {
    // The connection was lost: without the last line there is no result.
  }
  bar.remove();
  if (ended) renew().catch(() => null);  // not waited for: the next test may begin
  else head.textContent = place.dataset.lost;
  offerCopy(box);
  return true;
}

// Beside the result, the state of mail and what was delivered are those after the test, as on the page that is shown without a script.
async function renew() {
  const answer = await fetch("/smtp?refresh");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [state, delivery] = [".state", "aside > .card"].map(each => page.querySelector(each));
  // Such as a page to sign in again.
  if (!delivery) return;
  // What is the same stays, so that no screen reader says it again, and so does what a person is in with the keyboard.
  const renewed = (old, made) => old.isEqualNode(made) || old.contains(document.activeElement) || old.replaceWith(made ?? "");
  renewed(find(".state"), state);
  renewed(find("aside > .card"), delivery);
  const old = find(".banner"), banner = page.querySelector(".banner");
  if (old) renewed(old, banner);
  else if (banner) find("main").prepend(banner);
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
  const {failed, reply, advice, field, listed, offers, hint, kept, copy, copied} = result;
  if (failed) put(steps, "li", "✗ " + failed, {className: "error"});
  if (reply) put(box, "p", reply);
  if (advice && field) put(put(box, "p", ""), "a", advice, {href: "#" + field});
  else if (advice) put(box, "p", advice);
  if (listed.length) {
    const list = put(box, "ul", "");
    listed.forEach(each => put(list, "li", "", {innerText: each}));
  }
  // Each posts the form as it is, and comes back with what is to be trusted filled in.
  offers.forEach(each => {
    const button = put(box, "button", each.label, each);
    button.setAttribute("form", "tab");
    button.addEventListener("click", fillIn);
  });
  if (hint) put(box, "p", hint);
  put(box, "p", kept, {className: "help"});
  Object.assign(box.dataset, {copy, copied});
  return true;
}

// Fill in what is to be trusted without a new page, which would lose the typed password: the device never sends one back.
async function fillIn(event) {
  const button = event.currentTarget, {form} = button;
  if (!form.elements.password?.value) return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form));
  body.delete("password");
  body.set(button.name, button.value);
  body.set("keeps_password", "1");
  try {
    const answer = await fetch(button.formAction, {method: "POST", body});
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const notice = page.querySelector("p.notice");
    const fields = root => [...root.querySelectorAll("#tab [name^=trust]")].map(each => each.closest(".field"));
    const [choice, ...others] = fields(document), filled = fields(page);
    if (!notice || !filled.length) throw answer;
    find("p.notice")?.remove();
    find("h1").after(notice);
    choice.closest("details").open = true;
    others.forEach(each => each.remove());
    choice.replaceWith(...filled);
    form.dataset.unsaved = "";
    form.dispatchEvent(new Event("input"));
    notice.tabIndex = -1;
    notice.focus();
    wait();
  } catch {
    // Such as a page to sign in again: the form shows it.
    form.requestSubmit(button);
  }
}

// A failed result as text, for whoever is asked for help. A page without TLS has no navigator.clipboard.
export function offerCopy(box) {
  if (!box.dataset.copy) return;
  const text = `${document.title}, ${new Date().toISOString()}\n${box.innerText}`;
  const copy = put(box, "button", box.dataset.copy, {type: "button", className: "second"});
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = put(box, "textarea", text);
      area.select();
      document.execCommand("copy");
      area.remove();
      copy.focus();
    }
    copy.textContent = box.dataset.copied;
  });
}
