// Keys, the search among labels, and what is announced. Everything else works without it.
"use strict";

const find = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const keysAreOn = () => localStorage.getItem("keys") !== "off";
let busy = false;
let fading;

function tell(text) {
  const toast = find("#toast");
  toast.textContent = text;
  clearTimeout(fading);
  fading = setTimeout(() => { toast.textContent = ""; }, 6000);
}

function shownLabels() {
  return all("#labels button").filter((button) => !button.hidden);
}

function filterLabels(input) {
  const words = input.value.toLowerCase().split(/\s+/);
  for (const button of all("#labels button")) {
    const text = `${button.value} ${button.title}`.toLowerCase();
    button.hidden = !words.every((word) => text.includes(word));
    button.classList.remove("first");
  }
  const [first] = shownLabels();
  if (input.value && first) first.classList.add("first");
  if (!first) tell("No label has this in it.");
}

function setUp() {
  for (const part of all(".filter, [data-all], [data-switch]")) part.hidden = false;
  const keys = find("[data-keys]");
  if (keys) keys.checked = keysAreOn();
  const said = find(".said");
  if (said) {
    tell(said.textContent);
    said.remove();
  }
  const box = find("[data-all]");
  if (box) tick(box);
  nameSaving();
}

// What is left as it is, is right.
function nameSaving() {
  const [written, label] = [find("textarea[name=answer]"), find("[data-save] span")];
  if (!written || !label) return;
  const isChanged = written.value !== written.defaultValue || written.matches("[aria-invalid]");
  label.textContent = isChanged ? "Save the correction" : "Right";
}

function tick(box) {
  const each = all("input[name=id]");
  const ticked = each.filter((one) => one.checked).length;
  box.checked = ticked === each.length;
  box.indeterminate = ticked > 0 && ticked < each.length;
}

function inField(event, field) {
  if (event.key === "Escape") {
    if (field.matches("[data-filter]")) {
      field.value = "";
      filterLabels(field);
    }
    field.blur();
    find("#main").focus({ preventScroll: true });
  } else if (event.key === "Enter" && field.matches("[data-filter]")) {
    event.preventDefault();
    if (field.value) shownLabels()[0]?.click();
  } else if (event.key === "Enter" && event.ctrlKey) {
    event.preventDefault();
    (find("[data-save-all]") || find("[data-save]") || find("[data-key=Enter]"))?.click();
  } else if (event.key === "Enter" && field.matches("input")) {
    event.preventDefault();  // a note alone says nothing
  }
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.metaKey || event.isComposing) return;
  if (busy) {
    if (!event.ctrlKey && event.key.length === 1) event.preventDefault();
    return;
  }
  const field = event.target.closest("input:not([type=checkbox]), textarea");
  if (field) return inField(event, field);
  if (event.ctrlKey || event.repeat) return;
  if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
  if (event.key !== "Enter" && !keysAreOn()) return;
  if (event.key === "?") {
    const help = find("[data-help]");
    if (help) help.open = !help.open;
    if (help?.open) help.querySelector("summary").focus();
    return;
  }
  const key = CSS.escape(event.key);
  const into = find(`[data-focus="${key}"]`);
  const on = find(`[data-key="${key}"]:not([disabled])`);
  if (!into && !on) return;
  event.preventDefault();
  if (into) into.focus();
  else on.click();
});

document.addEventListener("input", (event) => {
  if (event.target.matches("[data-filter]")) filterLabels(event.target);
  if (event.target.matches("textarea")) nameSaving();
});

document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.matches("[data-keys]")) localStorage.setItem("keys", box.checked ? "on" : "off");
  if (box.matches("[data-all]")) for (const each of all("input[name=id]")) each.checked = box.checked;
  if (box.matches("input[name=id]")) tick(find("[data-all]"));
});

document.addEventListener("htmx:beforeRequest", () => { busy = true; });
document.addEventListener("htmx:afterRequest", () => { busy = false; });
document.addEventListener("htmx:sendError", () => tell("The server does not answer. Nothing is lost: try again."));
document.addEventListener("htmx:responseError", (event) => {
  const page = new DOMParser().parseFromString(event.detail.xhr.responseText, "text/html");
  tell(page.querySelector("[role=alert]")?.textContent ?? "The server has refused that. Nothing is lost here.");
});
document.addEventListener("htmx:afterSettle", () => {
  setUp();
  // Whoever listens hears where he is; a field that is wrong has been given the focus already.
  if (!find("[autofocus]")) find("#main").focus({ preventScroll: true });
});
setUp();
