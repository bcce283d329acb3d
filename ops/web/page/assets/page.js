// What the page does with script: says how the stream is, moves through time, and listens to keys. All else is HTML.
"use strict";
(() => {
  const SILENCE_MS = 1650;
  const find = (selector) => document.querySelector(selector);
  let heard = performance.now();
  let problem = "";

  // --- Is what stands here still true? ---
  const WORDS = {
    log: "The log is out of reach. What is shown stands where the history ended; it goes on by itself.",
    history: "The history is out of reach. What is shown stands where it was; it goes on by itself.",
    server: "The server is out of reach. What is shown stands where it was; it goes on by itself.",
  };
  const tell = () => {
    const banner = find("#reach"), state = find("#state");
    if (!banner || !state || !find("#stream")) return;
    const silent = !document.hidden && performance.now() - heard > SILENCE_MS;
    const text = WORDS[silent ? "server" : problem] || problem;
    if (banner.textContent !== text) banner.textContent = text;
    banner.classList.toggle("shown", text !== "");
    state.classList.toggle("lost", text !== "");
    const word = text ? "Waiting" : "Live";
    const shown = state.querySelector("b");
    if (shown.textContent !== word) shown.textContent = word;
  };
  document.addEventListener("htmx:sse:before:message", (event) => {
    heard = performance.now();
    const message = event.detail.message;
    if (message.event === "beat") problem = message.data.trim();
    else if (message.event === "refresh") location.reload();
    else moveNow();
    tell();
  });
  document.addEventListener("htmx:sse:after:connection", () => { heard = performance.now(); });
  document.addEventListener("visibilitychange", () => { heard = performance.now(); });
  setInterval(tell, 200);

  // --- How long ago ---
  const spell = (seconds) => seconds < 1 ? "now" : seconds < 120 ? `${Math.floor(seconds)} s ago`
    : seconds < 7200 ? `${Math.floor(seconds / 60)} min ago` : seconds < 172800 ? `${Math.floor(seconds / 3600)} h ago`
    : `${Math.floor(seconds / 86400)} d ago`;
  const age = () => {
    if (!find("#stream")) return;
    for (const when of document.querySelectorAll("time.when")) {
      const text = spell((Date.now() - Date.parse(when.dateTime)) / 1000);
      if (when.textContent !== text) when.textContent = text;
    }
  };
  setInterval(age, 1000);
  document.addEventListener("htmx:after:swap", age);
  age();

  // --- The slider of time ---
  const stops = find("#stops");
  const places = stops ? stops.dataset.stops.split(";").map((stop) => stop.split("@")) : [];
  const show = () => {
    const [time, version] = places[+stops.value] || [];
    if (!time) return;
    const text = `${time.slice(0, 10)} ${time.slice(11, 19)} UTC${version ? ` · version ${version}` : ""}`;
    find("#when").textContent = text;
    stops.setAttribute("aria-valuetext", text);
  };
  const go = (number) => {
    const address = new URL(location.href);
    if (number >= places.length - 1) address.searchParams.delete("at");
    else address.searchParams.set("at", places[Math.max(0, number)][0]);
    if (address.href !== location.href) location.assign(address);
  };
  const moveNow = () => {
    if (stops && document.activeElement !== stops && find("#stream")) {
      const now = new Date().toISOString();
      find("#when").textContent = `${now.slice(0, 10)} ${now.slice(11, 19)} UTC`;
    }
  };
  if (stops) {
    stops.addEventListener("input", show);
    stops.addEventListener("change", () => go(+stops.value));
  }

  // --- Keys ---
  const keys = find("#keys");
  let afterG = false;
  find("#keys-open")?.addEventListener("click", () => keys.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input:not([type=range]), select, textarea")) return;
    const key = event.key;
    if (afterG) {
      afterG = false;
      find(`nav a[data-key="${CSS.escape(key)}"]`)?.click();
      return;
    }
    if (key === "?") keys.open ? keys.close() : keys.showModal();
    else if (key === "g") afterG = true;
    else if (key === "n") find("#to-now")?.click();
    else if (key === "[" && stops) go(+stops.value - 1);
    else if (key === "]" && stops) go(+stops.value + 1);
  });
})();
