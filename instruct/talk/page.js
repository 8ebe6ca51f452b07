// Runs once, when the page is loaded: what the browser does on its own.
() => {
  const find = (selector) => document.querySelector(selector);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && find("#prompt").contains(event.target)) {
      event.preventDefault();
      find("#ask").click();
    }
  });
  // what was asked in this visit; it stays in this browser
  const history = [], columns = ["prompt", "answer", "label", "share", "own", "judged"];
  const cell = (row, tag, text) => { row.appendChild(document.createElement(tag)).textContent = text; };
  function remember(shown) {
    const out = shown.querySelector(".outcome"), place = find("#asked");
    if (!out || !place || shown.dataset.number === remembered) return;
    remembered = shown.dataset.number;
    history.push({ prompt: shown.dataset.asked, ...out.dataset });
    const table = document.createElement("table"), head = table.insertRow();
    for (const name of ["question", "answer", "likeliest", "", "record's own", ""]) cell(head, "th", name);
    for (const asked of [...history].reverse()) {
      const row = table.insertRow();
      for (const name of columns) cell(row, "td", asked[name]);
      row.className = asked.judged;
      row.cells[0].title = asked.prompt;
    }
    const quoted = (text) => '"' + text.replaceAll('"', '""') + '"';
    const lines = [columns, ...history.map((asked) => columns.map((name) => asked[name]))];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.map((line) => line.map(quoted).join(",") + "\n").join("")], { type: "text/csv" }));
    link.download = "answers.csv";
    link.className = "download";
    link.textContent = `Download ${history.length} answer${history.length > 1 ? "s" : ""} as CSV`;
    place.replaceChildren(link, table);
  }
  let last, remembered;
  setInterval(() => {
    const result = find("#result"), shown = find("#result [data-number]"), prompt = find("#prompt textarea");
    if (!shown || !prompt) return;
    // an answer is there as long as its question is, whatever of it is still on its way
    result.classList.toggle("stale", shown.dataset.asked !== prompt.value);
    remember(shown);
    if (shown.dataset.number === last) return;
    last = shown.dataset.number;
    if (result.getBoundingClientRect().top > innerHeight / 2) result.scrollIntoView({ block: "start" });
  }, 100);
}
