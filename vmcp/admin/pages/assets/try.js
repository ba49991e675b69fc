// The form of a call is sent without leaving the page, so that what was written stays. The rule: without it the page works the same.
"use strict";
(() => {
  const put = (fresh, id) => {
    const old = document.getElementById(id), found = fresh.getElementById(id);
    if (old && found) old.replaceChildren(...document.importNode(found, true).childNodes);
  };
  const wrongs = (form, fresh) => {
    form.querySelectorAll(".field").forEach((field) => {
      const input = field.querySelector("[name]");
      const other = input && fresh.querySelector(`#call [name="${CSS.escape(input.name)}"]`)?.closest(".field");
      field.classList.toggle("wrong", Boolean(other?.classList.contains("wrong")));
      field.querySelector("strong.bad")?.remove();
      const told = other?.querySelector("strong.bad");
      if (told) field.append(document.importNode(told, true));
    });
  };
  const send = async (form) => {
    const busy = document.getElementById("busy"), result = document.getElementById("result"), button = form.querySelector("button.main");
    button.disabled = true;
    result.classList.add("waiting");
    busy.textContent = "Calling …";
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "error" });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (!fresh.getElementById("result")) return location.reload();
      ["problems", "result"].forEach((id) => put(fresh, id));
      wrongs(form, fresh);
      document.querySelectorAll("#result [data-needs-script]").forEach((each) => { each.hidden = false; });
      busy.textContent = "";
    } catch {
      busy.textContent = "vmcp does not answer.";
    } finally {
      button.disabled = false;
      result.classList.remove("waiting");
    }
  };
  document.addEventListener("submit", (event) => {
    if (event.target.id !== "call" || event.defaultPrevented) return;
    event.preventDefault();
    send(event.target);
  });
})();
