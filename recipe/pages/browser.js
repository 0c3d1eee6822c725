// A link to a folded section opens it; so does an address with the filters of the rollouts.
(() => {
  function open() {
    const id = location.hash.includes("=") ? "rollouts" : location.hash.slice(1);
    const section = id && document.getElementById(id)?.closest("details");
    if (section) section.open = true;
  }
  window.addEventListener("hashchange", open);
  document.querySelectorAll("a[href^='#']").forEach((link) => link.addEventListener("click", () => setTimeout(open)));
  open();
})();
// Filters of the rollouts. Their state lives in the address (#corpus=meld&valid=0), so that it can be shared.
(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const groups = [...document.querySelectorAll(".group")].map((element) => ({
    element,
    prompt: element.querySelector(".prompt").textContent.toLowerCase(),
    rollouts: [...element.querySelectorAll(".rollout")].map((r) => ({ element: r, text: r.textContent.toLowerCase() })),
  }));
  const fields = ["corpus", "step", "valid", "best", "q"];

  function apply() {
    const want = Object.fromEntries(fields.map((name) => [name, form.elements[name].value]));
    if (!form.elements.best.checked) want.best = "";
    const q = want.q.trim().toLowerCase();
    let shownGroups = 0, shownRollouts = 0;
    for (const { element, prompt, rollouts } of groups) {
      const fits = ["corpus", "step"].every((name) => !want[name] || element.dataset[name] === want[name]);
      const inPrompt = prompt.includes(q);
      let left = 0;
      for (const { element: rollout, text } of rollouts) {
        const show = fits && ["valid", "best"].every((name) => !want[name] || rollout.dataset[name] === want[name])
          && (inPrompt || text.includes(q));
        rollout.hidden = !show;
        left += show;
      }
      element.hidden = !left;
      shownGroups += left > 0;
      shownRollouts += left;
    }
    document.getElementById("shown").textContent = `${shownRollouts} rollouts of ${shownGroups} prompts`;
    return want;
  }

  function fromAddress() {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of fields) {
      if (name === "best") form.elements.best.checked = given.get("best") === "1";
      else form.elements[name].value = given.get(name) ?? "";
    }
    apply();
  }

  form.addEventListener("input", () => {
    const set = Object.entries(apply()).filter(([, value]) => value);
    history.replaceState(null, "", "#" + new URLSearchParams(set));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", () => { if (location.hash.includes("=")) fromAddress(); });
  fromAddress();
})();
