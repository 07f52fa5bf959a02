// What pages do beyond links and forms: say what failed, choose at once, close menus. Everything works without it.
"use strict";

const trouble = document.getElementById("trouble");

function tell(text) {
  trouble.textContent = text;
  trouble.hidden = !text;
  if (text) trouble.scrollIntoView({ block: "nearest" });
}

function explain(body) {
  try {
    const { message, details } = JSON.parse(body).error;
    return [message, ...details.map((each) => `${each.rule}: ${each.next_step}.`)].join(" ");
  } catch {
    return body.slice(0, 300);
  }
}

document.addEventListener("htmx:beforeRequest", () => tell(""));
document.addEventListener("htmx:responseError", (event) => tell(explain(event.detail.xhr.responseText)));
document.addEventListener("htmx:sendError", () => tell(document.body.dataset.offline || "The service does not answer."));

// Pickers take effect when they are changed; their button is for who has no JavaScript.
for (const form of document.querySelectorAll("form.pickers")) {
  const button = form.querySelector("button.apply");
  if (button) button.hidden = true;
  form.addEventListener("change", () => form.requestSubmit());
}

// Sliders answer while they are moved; the button is for who has no JavaScript.
if (window.htmx) for (const button of document.querySelectorAll("form.imagine button.apply")) button.hidden = true;

// A branch of a table that has been loaded is closed and opened without asking again.
document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-branch]");
  if (!opener || opener.getAttribute("aria-expanded") === null || !opener.dataset.loaded) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const open = opener.getAttribute("aria-expanded") === "true";
  opener.setAttribute("aria-expanded", String(!open));
  for (const row of document.querySelectorAll(`[data-under~="${CSS.escape(opener.dataset.branch)}"]`)) row.hidden = open;
}, true);

document.addEventListener("htmx:afterRequest", (event) => {
  const opener = event.target.closest?.("[data-branch]");
  if (opener && event.detail.successful) {
    opener.dataset.loaded = "yes";
    opener.setAttribute("aria-expanded", "true");
    opener.focus();
  }
});

for (const menu of document.querySelectorAll("details.menu")) {
  document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { menu.open = false; menu.querySelector("summary").focus(); }
  });
}
