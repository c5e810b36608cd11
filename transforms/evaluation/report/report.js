"use strict";
const byId = (id) => document.getElementById(id);

/** Unpack base64 of gzip. */
async function unpacked(id) {
  const text = atob(byId(id).textContent);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Figures are drawn before they scroll into view; before printing, all of them.
let library = null;
const undrawn = new Set(document.querySelectorAll(".plot"));

function plotly() {
  library ??= unpacked("packed-plotly").then((bytes) => {
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(bytes);
    document.head.append(script);
  });
  return library;
}

function draw(element) {
  if (!undrawn.delete(element)) return;
  const plot = JSON.parse(byId(element.dataset.plot).textContent);
  Plotly.newPlot(element, plot.data, plot.layout, { responsive: true, displaylogo: false, displayModeBar: false });
}

const near = new IntersectionObserver((entries) => {
  const seen = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
  if (seen.length) plotly().then(() => seen.forEach(draw));
}, { rootMargin: "600px" });
addEventListener("load", () => undrawn.forEach((element) => near.observe(element)));
addEventListener("beforeprint", () => {
  document.querySelectorAll(".figure details").forEach((details) => { details.open = false; });
  if (window.Plotly) {
    [...undrawn].forEach(draw);
    document.querySelectorAll(".js-plotly-plot").forEach((element) => Plotly.Plots.resize(element));
  }
});

// Sortable tables with pages and a filter.
for (const box of document.querySelectorAll(".sortable")) {
  const body = box.querySelector("tbody");
  const size = Number(box.dataset.page);
  const filter = box.querySelector(".filter");
  let rows = [...body.rows];
  let page = 0;

  const show = () => {
    const text = filter ? filter.value.trim().toLowerCase() : "";
    const found = rows.filter((row) => row.cells[0].textContent.toLowerCase().includes(text));
    page = Math.max(0, Math.min(page, Math.ceil(found.length / size) - 1));
    rows.forEach((row) => { row.hidden = true; });
    const shown = found.slice(page * size, (page + 1) * size);
    shown.forEach((row) => { row.hidden = false; });
    if (!filter) return;
    const first = found.length ? page * size + 1 : 0;
    box.querySelector(".shown").textContent = `${first} to ${page * size + shown.length} of ${found.length}`;
    box.querySelector(".back").disabled = page === 0;
    box.querySelector(".next").disabled = (page + 1) * size >= found.length;
  };

  const heads = [...box.querySelectorAll("thead th")];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const numeric = column > 0;
    const down = head.ariaSort === "none" ? numeric : head.ariaSort === "ascending";
    heads.forEach((other) => { other.ariaSort = "none"; });
    head.ariaSort = down ? "descending" : "ascending";
    const key = (row) => row.cells[column].dataset.key;
    const compare = numeric ? (a, b) => key(a) - key(b) : (a, b) => key(a).localeCompare(key(b));
    rows.sort((a, b) => (down ? -1 : 1) * compare(a, b));
    body.append(...rows);
    page = 0;
    show();
  }));
  if (filter) {
    filter.addEventListener("input", () => { page = 0; show(); });
    box.querySelector(".back").addEventListener("click", () => { page -= 1; show(); });
    box.querySelector(".next").addEventListener("click", () => { page += 1; show(); });
  }
  show();
}

// The table browser.
const data = JSON.parse(byId("browser-data").textContent);
const MOST = 50; // options of a combobox
const NONE = 0xffff;
const chosen = [...data.first];
let table = null;

async function answersTable() {
  table ??= unpacked("packed-table").then((bytes) => {
    const pairs = data.names.length ** 2;
    let start = 0;
    const planes = (length, width) => { // see packed_table
      const values = new Uint32Array(length);
      for (let plane = 0; plane < width; plane++) {
        for (let i = 0; i < length; i++) values[i] += bytes[start + plane * length + i] * 256 ** plane;
      }
      start += length * width;
      return values;
    };
    const novel = planes(data.answers * pairs, 2);
    const probability = planes(data.answers * pairs, 2);
    return { pairs, novel, probability, users: planes(pairs, 4) };
  });
  return table;
}

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function showItems(cluster) {
  byId("items-title").textContent = `Items of “${data.names[cluster]}”`;
  const titles = data.items[cluster];
  byId("items").replaceChildren(...(titles.length ? titles : ["No eligible item."]).map((title) => element("li", title)));
}

async function showPair() {
  const { pairs, novel, probability, users } = await answersTable();
  const row = chosen[0] * data.names.length + chosen[1];
  const found = [];
  for (let i = 0; i < data.answers; i++) {
    if (novel[i * pairs + row] !== NONE) found.push([novel[i * pairs + row], probability[i * pairs + row] / data.scale]);
  }
  const count = users[row] ? users[row].toLocaleString("en") : `fewer than ${data.minUsers}`;
  byId("pair-status").textContent = `${count} users have these two latest interests.` + (found.length ? "" : " The table has no answer.");
  const longest = Math.max(...found.map(([, p]) => p), 1e-9);
  byId("answers").replaceChildren(...found.map(([cluster, p], i) => {
    const button = element("button");
    button.type = "button";
    button.ariaPressed = String(i === 0);
    const bar = element("span", undefined, "bar");
    bar.append(element("span"));
    bar.firstChild.style.width = `${(100 * p) / longest}%`;
    button.append(element("span", data.names[cluster]), element("span", `${(100 * p).toFixed(1)}%`, "p"), bar);
    button.addEventListener("click", () => {
      byId("answers").querySelectorAll("button").forEach((other) => { other.ariaPressed = String(other === button); });
      showItems(cluster);
    });
    const entry = element("li");
    entry.append(button);
    return entry;
  }));
  if (found.length) showItems(found[0][0]);
  else byId("items").replaceChildren();
}

function combobox(input, position) {
  const list = byId(`${input.id}-list`);
  let active = -1;
  let options = [];

  const close = () => {
    list.hidden = true;
    active = -1;
    input.ariaExpanded = "false";
    input.removeAttribute("aria-activedescendant");
  };
  const choose = (cluster) => {
    chosen[position] = cluster;
    input.value = data.names[cluster];
    close();
    showPair();
  };
  const activate = (index) => {
    active = index;
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === index)));
    if (index < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", options[index].id);
    options[index].scrollIntoView({ block: "nearest" });
  };
  const open = (text) => {
    const wanted = text.trim().toLowerCase();
    const found = data.names.flatMap((name, cluster) => (name.toLowerCase().includes(wanted) ? [cluster] : []));
    options = found.slice(0, MOST).map((cluster) => {
      const option = element("li", data.names[cluster]);
      option.id = `${input.id}-${cluster}`;
      option.role = "option";
      option.setAttribute("aria-selected", "false");
      option.addEventListener("pointerdown", (event) => { event.preventDefault(); choose(cluster); });
      option.choose = () => choose(cluster);
      return option;
    });
    list.replaceChildren(...options);
    if (found.length !== options.length || !found.length) {
      const note = element("li", found.length ? `${found.length - options.length} more: keep typing` : "No matching interest", "more");
      note.role = "presentation";
      list.append(note);
    }
    list.hidden = false;
    input.ariaExpanded = "true";
    activate(wanted && options.length ? 0 : -1);
  };

  input.value = data.names[chosen[position]];
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => open(""));
  input.addEventListener("input", () => open(input.value));
  input.addEventListener("blur", () => { close(); input.value = data.names[chosen[position]]; });
  input.addEventListener("keydown", (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      if (list.hidden) open("");
      if (options.length) activate(active < 0 ? (move > 0 ? 0 : options.length - 1) : (active + move + options.length) % options.length);
    } else if (event.key === "Enter" && active >= 0) options[active].choose();
    else if (event.key === "Escape") { close(); input.value = data.names[chosen[position]]; } else return;
    event.preventDefault();
  });
}
["older", "newer"].forEach((id, position) => combobox(byId(id), position));
new IntersectionObserver((entries, observer) => {
  if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); showPair(); }
}, { rootMargin: "600px" }).observe(byId("browser"));
