// Runs once, when the page is loaded: what the browser does on its own.
() => {
  const find = (selector) => document.querySelector(selector);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && find("#prompt").contains(event.target)) {
      event.preventDefault();
      find("#ask").click();
    }
  });
  let last;
  setInterval(() => {
    const result = find("#result"), shown = find("#result [data-number]"), prompt = find("#prompt textarea");
    if (!shown || !prompt) return;
    // an answer is there as long as its question is, whatever of it is still on its way
    result.classList.toggle("stale", shown.dataset.asked !== prompt.value);
    if (shown.dataset.number === last) return;
    last = shown.dataset.number;
    if (result.getBoundingClientRect().top > innerHeight / 2) result.scrollIntoView({ block: "start" });
  }, 100);
}
