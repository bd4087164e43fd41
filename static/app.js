// What a page does better with a script: nothing needs it, and every sentence that it shows comes with the page.
"use strict";
const find = selector => document.querySelector(selector);
const every = (selector, act) => document.querySelectorAll(selector).forEach(act);

function put(parent, name, text, more) {
  const made = Object.assign(document.createElement(name), {textContent: text}, more);
  parent.append(made);
  return made;
}

// A password is shown while its button says so, and never when its form is sent.

every(".reveal", button => {
  const input = document.getElementById(button.getAttribute("aria-controls"));
  const {show, hide, hideLabel} = button.dataset, showLabel = button.ariaLabel;
  const turn = shown => {
    input.type = shown ? "text" : "password";
    button.textContent = shown ? hide : show;
    button.ariaLabel = shown ? hideLabel : showLabel;
  };
  button.addEventListener("click", () => turn(input.type === "password"));
  input.form.addEventListener("submit", () => turn(false));
  turn(button.hidden = false);
});

// A password that the chosen sign-in does not need is not asked for. A disabled field keeps what was typed in it and is not sent
// (HTML, 4.10.19.5), so the choice can be taken back.

const help = find("[data-needed]");
if (help) {
  const input = find("#password"), before = input.disabled, said = [...help.childNodes], {needed, other} = help.dataset;
  addEventListener("input", () => {
    const [signIn, grant] = ["#sign_in", "#oauth_grant"].map(id => find(id)?.value);
    input.disabled = ![signIn, `${signIn} ${grant}`].some(each => needed.split(",").includes(each));
    help.replaceChildren(...input.disabled === before ? said : [other]);
  });
}

// The rules of the password, ticked off while one types. The device decides, by the same rows.

const list = find(".rules"), length = +list?.dataset.length;
const rows = list ? list.dataset.rows.split(" ").flatMap(row => [row, [...row].reverse().join("")]) : [];

// Three neighbours of one row, forwards or backwards, without the case of A to Z (settings/rules.py).
function isSequential(text) {
  const characters = [...text.replace(/[A-Z]/g, letter => letter.toLowerCase())];
  return characters.some((_, i) => i + length <= characters.length
    && rows.some(row => row.includes(characters.slice(i, i + length).join(""))));
}

// Whether each rule of the list holds, in its order.
function holding(text) {
  return [...list.children].map(({dataset: {pattern, forbidden}}) =>
    (pattern ? RegExp(pattern, "su").test(text) : isSequential(text)) === (forbidden === undefined));
}

if (list) {
  const input = find("#password"), signIn = find("#sign_in"), told = find("[data-told]");
  let later;
  // Closed while a stored password is kept, and for a sign-in that has other rules.
  const open = () => list.hidden = signIn.value !== signIn.options[0].value
    || "stored" in list.dataset && !input.value;
  const tick = () => {
    open();
    const held = holding(input.value), met = held.filter(Boolean).length;
    [...list.children].forEach((item, i) =>
      item.className = !input.value ? "" : held[i] ? "met" : "forbidden" in item.dataset ? "unmet" : "");
    clearTimeout(later);
    later = setTimeout(() => told.textContent = input.value &&
      told.dataset.told.replace("{met}", met).replace("{all}", held.length), 1000);
  };
  input.addEventListener("input", tick);
  signIn.addEventListener("input", open);
  open();
}

// The error of a field goes when the field is edited: it speaks of a value that is there no more. The sign-in decides the
// rules of the fields that it names.

addEventListener("input", ({target}) => [target.id, ...(target.dataset.decides || "").split(" ")].forEach(id => {
  const input = document.getElementById(id), field = input?.closest(".wrong");
  if (!field) return;
  field.classList.remove("wrong");
  field.querySelector(".error").remove();
  input.removeAttribute("aria-invalid");
  input.setAttribute("aria-describedby", input.getAttribute("aria-describedby").replace(` ${id}-error`, ""));
  const entries = find(".problem ul");
  entries?.querySelector(`[href="#${id}"]`)?.parentNode.remove();
  if (entries?.children.length === 0) entries.parentNode.remove();
}));

// What is typed and not saved is not left without a question.

const changed = form => "unsaved" in form.dataset || [...form.elements].some(each =>
  each.options ? [...each.options].some(one => one.selected !== one.defaultSelected)
    : each.type !== "hidden" && each.defaultValue !== undefined && each.value !== each.defaultValue);
let sent;
addEventListener("submit", event => sent = event.defaultPrevented ? sent : event.target);
addEventListener("beforeunload", event => {
  const kept = document.querySelectorAll("[data-saved], [data-unsaved]");
  if ([...kept].some(form => form !== sent && changed(form))) event.preventDefault();
});
every("[data-saved], [data-unsaved]", form => {
  const note = form.querySelector("[data-say]"), tell = () => {
    const say = changed(form) ? note.dataset.say : "";
    if (note.textContent !== say) note.textContent = say;
  };
  if (!note) return;
  form.addEventListener("input", tell);
  tell();
});

// A test mail, step by step as it happens, by a script that is loaded when it is used: most visits send none. Without it the same
// form shows the same, as one page at the end.

const button = find("[formaction='/smtp/test']"), form = button?.form, place = find("#test");
const load = () => import(place.dataset.script);
let plain = false;

async function test() {
  const disable = is => form.querySelectorAll(".actions button").forEach(each => each.disabled = is);
  disable(true);
  const script = await load().catch(() => null), shown = await script?.test(form, place);
  disable(false);
  // Where the script did not load, the next press goes without it; and so does this one where the device answers with a page.
  plain = !shown;
  if (!script) place.textContent = place.dataset.lost;
  else if (plain) form.requestSubmit(button);
}

form?.addEventListener("submit", event => {
  if (event.submitter !== button || plain) return;
  event.preventDefault();
  test();
});
// Without the script there is no button to copy with.
if (place?.firstElementChild) load().then(({offerCopy}) => offerCopy(place.firstElementChild), () => {});

// The session's end is told a minute before it comes (WCAG 2.2, 2.2.1). The words are the script's to put: a text browser shows
// what is hidden, too.

const toast = find(".toast");
let waiting;
function wait(seconds = toast.dataset.idle) {
  clearTimeout(waiting);
  waiting = setTimeout(() => toast.hidden = false, (seconds - 60) * 1000);
}
if (toast) {
  put(toast, "p", toast.dataset.say);
  put(toast, "button", toast.dataset.stay, {type: "button"}).addEventListener("click", async () => {
    toast.hidden = !(await fetch("/smtp", {method: "HEAD"})).redirected;
    wait();
  });
  // Less on a page that loaded itself again.
  wait(toast.dataset.left);
}
