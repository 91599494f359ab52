
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const cells = data.cells;
  const indexOf = new Map(cells.map((cell, index) => [cell.id, index]));
  const find = (id) => document.getElementById(id);

  // ---- elements: text goes in as text nodes only

  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null && child !== ""));
    return made;
  }
  const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
  const svg = (name, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

  const symbols = { passed: "✓", failed: "✗", error: "!", "known failure": "≈", "unexpected pass": "?", made: "○", skipped: "→", "not run": "·", informative: "i" };
  function badge(state) {
    const sign = element("span", { "aria-hidden": "true" }, symbols[state] || "?");
    return element("span", { class: `badge s-${state.replaceAll(" ", "-")}` }, sign, ` ${state}`);
  }

  function copyButton(text) {
    const button = element("button", { type: "button", class: "copy" }, "Copy");
    button.addEventListener("click", () => copy(text, button));
    return button;
  }
  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.previousElementSibling);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected";
    }
  }
  function commandBlock(text) {
    const label = { tabindex: "0", role: "region", "aria-label": "command" };
    return element("div", { class: "command" }, element("pre", label, text), copyButton(text));
  }

  const SHORT = new Set(["value", "limit", "took", "where", "samples", "stage"]);
  function table(label, heads, rows) {
    const kinds = heads.map((name) => (SHORT.has(name) ? { class: "short" } : {}));
    const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
    const body = rows.map((row) => element("tr", {}, ...row.map((value, column) => element("td", kinds[column], value))));
    const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
    return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, made);
  }

  // ---- the table of cells: sorting and filters

  const cellTable = find("cells");
  const rows = [...cellTable.tBodies[0].rows];
  const fields = [...find("matrix").querySelectorAll("[data-cell]")];
  const matrixRows = [...find("matrix").tBodies[0].rows];
  let order = rows.map((row) => Number(row.dataset.cell));

  function compare(column, direction) {
    return (left, right) => {
      const [one, other] = [left, right].map((row) => cells[row.dataset.cell].sort[column]);
      const [text, otherText] = [left, right].map((row) => row.cells[column].textContent);
      if (!text !== !otherText) return text ? -1 : 1; // what is empty stays at the end
      if (one !== null && other !== null) return direction * (one - other);
      return direction * text.localeCompare(otherText, "en", { numeric: true });
    };
  }
  function sortBy(column, head) {
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of cellTable.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    rows.sort(compare(column, direction));
    cellTable.tBodies[0].append(...rows);
    order = rows.map((row) => Number(row.dataset.cell));
  }
  [...cellTable.tHead.rows[0].cells].forEach((head, column) => {
    const button = element("button", { type: "button" }, head.textContent);
    button.addEventListener("click", () => sortBy(column, head));
    head.replaceChildren(button);
  });

  const query = find("query");
  const selects = ["verdict", "target", "variant"].map((name) => find(`filter-${name}`));
  let haystacks = null;
  function matches(index, words, chosen) {
    const cell = cells[index];
    const [state, target, variant] = chosen;
    if ((state && cell.state !== state) || (target && cell.target !== target) || (variant && cell.variant !== variant)) return false;
    return words.every((word) => haystacks[index].includes(word));
  }
  function filter() {
    haystacks ||= cells.map((cell) =>
      [cell.id, cell.model, cell.state, cell.cause, cell.board, cell.label].join(" ").toLowerCase());
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = selects.map((select) => select.value);
    const visible = cells.map((cell, index) => matches(index, words, chosen));
    for (const row of rows) row.hidden = !visible[row.dataset.cell];
    for (const field of fields) {
      field.hidden = !visible[field.dataset.cell];
      field.parentElement.classList.toggle("gone", field.hidden);
    }
    for (const row of matrixRows) row.hidden = ![...row.querySelectorAll("[data-cell]")].some((field) => !field.hidden);
    find("shown").textContent = `${visible.filter(Boolean).length} of ${cells.length} cells`;
  }
  query.addEventListener("input", filter);
  for (const select of selects) select.addEventListener("change", filter);
  find("reset").addEventListener("click", () => {
    query.value = "";
    for (const select of selects) select.value = "";
    filter();
  });
  find("filters").hidden = false;
  filter();
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button.previousElementSibling.textContent, button));
  }

  // ---- pictures

  const MARGIN = 8;
  const units = {
    operations: [[1e12, "Tops/s"], [1e9, "Gops/s"], [1e6, "Mops/s"], [1, "ops/s"]],
    traffic: [[1e9, "GB/s"], [1e6, "MB/s"], [1, "B/s"]],
    ns: [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]],
    bytes: [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]],
  };
  /** The number at an axis; the numbers that are read stand in the texts that came with the data. */
  function tick(value, unit) {
    if (unit === "share") return `${+(value * 100).toPrecision(4)} %`;
    const [factor, name] = (units[unit] || [[1, ""]]).find(([size]) => Math.abs(value) >= size) || [1, ""];
    return `${+(value / factor).toPrecision(3)} ${name}`.trim();
  }
  function picture(caption, lines, height, width, draw, hint = "") {
    const label = `${caption}: ${lines.join("; ")}`;
    const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    draw(drawing);
    const note = hint ? element("p", { class: "hint small" }, hint) : null;
    return element("figure", {}, element("figcaption", {}, caption), drawing, note);
  }
  function scale(low, high, width) {
    const span = high - low || Math.abs(high) || 1;
    const from = high === low ? low - span / 2 : low;
    return (value) => MARGIN + ((value - from) / span) * (width - 2 * MARGIN);
  }
  function axis(drawing, low, high, y, width, unit) {
    drawing.append(svg("line", { class: "axis", x1: MARGIN, x2: width - MARGIN, y1: y, y2: y }));
    drawing.append(svg("text", { class: "faint", x: MARGIN, y: y + 14 }, tick(low, unit)));
    if (high > low) drawing.append(svg("text", { class: "faint", x: width - MARGIN, y: y + 14, "text-anchor": "end" }, tick(high, unit)));
  }
  /** A text in lines that fit the picture. */
  function wrap(text, width) {
    const most = Math.max(10, Math.floor((width - 2 * MARGIN) / 6.6));
    const lines = [""];
    for (const word of text.split(" ").flatMap((part) => part.match(new RegExp(`.{1,${most}}`, "gu")) || [])) {
      const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
      if (longer.length > most) lines.push(word);
      else lines[lines.length - 1] = longer;
    }
    return lines;
  }
  /** Rows of a text and something of `height` below it: the text of each is drawn, and `draw` gets row and top of the rest. */
  function stack(texts, height, width) {
    const wrapped = texts.map((text) => wrap(text, width));
    const tops = [];
    let y = 0;
    for (const lines of wrapped) {
      tops.push(y + 15 * lines.length + 2);
      y += 15 * lines.length + 2 + height + 8;
    }
    const draw = (drawing, drawRow) => wrapped.forEach((lines, row) => {
      const first = tops[row] - 2 - 15 * (lines.length - 1);
      lines.forEach((line, at) => drawing.append(svg("text", { x: MARGIN, y: first + 15 * at - 2 }, line)));
      drawRow(row, tops[row]);
    });
    return { height: y, draw };
  }
  /** Cells of the same model, this one first, that `has` something to compare. */
  function siblings(cell, has, most) {
    const others = cells.filter((other) => other !== cell && other.model === cell.model && has(other));
    return [cell, ...others].filter(has).slice(0, most);
  }
  const name = (cell) => `${cell.target}${cell.variant ? ` ${cell.variant}` : ""}`;

  function latencyPicture(cell, width) {
    const shown = siblings(cell, (other) => other.latency.length && other.target === cell.target && other.board === cell.board, 4);
    if (!cell.latency.length) return null;
    const all = shown.flatMap((other) => other.latency);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const lines = shown.map((other) => `${name(other)}: median ${other.latency_text}, ${other.latency.length === 1 ? "1 sample" : `${other.latency.length} samples`}`);
    const isLog = low > 0 && high > 3 * low; // one slow run must not press all others together
    const rows = stack(lines, 20, width);
    return picture("Latency", lines, rows.height + 18, width, (drawing) => {
      const linear = isLog ? scale(Math.log(low), Math.log(high), width) : scale(low, high, width);
      const x = (value) => linear(isLog ? Math.log(value) : value);
      rows.draw(drawing, (row, top) => {
        const samples = shown[row].latency;
        const at = (share) => x(samples[Math.round(share * (samples.length - 1))]);
        for (const sample of samples) drawing.append(svg("circle", { class: "dot", cx: x(sample), cy: top + 10, r: 3.5 }));
        if (samples.length > 3) {
          drawing.append(svg("rect", { class: "box", x: at(0.25), y: top + 2, width: Math.max(1, at(0.75) - at(0.25)), height: 16 }));
          drawing.append(svg("line", { class: "median", x1: at(0.5), x2: at(0.5), y1: top, y2: top + 20 }));
        }
      });
      axis(drawing, low, high, rows.height, width, "ns");
    }, `Each dot is a run; the box holds the middle half of them, the line is the median.${isLog ? " The axis is logarithmic." : ""}`);
  }

  function sizePicture(cell, width) {
    const shown = siblings(cell, (other) => other.sizes.length, 6);
    if (!cell.sizes.length) return null;
    const total = (other) => other.sizes.reduce((sum, [, value]) => sum + value, 0);
    const longest = Math.max(...shown.map(total));
    const lines = shown.map((other) => `${name(other)}: ${other.sizes.map(([part, , text]) => `${part} ${text}`).join(", ")}`);
    const classes = { program: "c0", weights: "c1", arena: "c2" };
    const rows = stack(lines, 14, width);
    return picture("Size", lines, rows.height + 16, width, (drawing) => {
      rows.draw(drawing, (row, top) => {
        let x = MARGIN;
        for (const [part, value, text] of shown[row].sizes) {
          const length = (value / longest) * (width - 2 * MARGIN);
          drawing.append(svg("rect", { class: classes[part], x, y: top, width: length, height: 14 }, svg("title", {}, `${part} ${text}`)));
          x += length;
        }
      });
      let x = MARGIN;
      for (const part of Object.keys(classes)) {
        drawing.append(svg("rect", { class: classes[part], x, y: rows.height + 3, width: 10, height: 10 }));
        drawing.append(svg("text", { x: x + 14, y: rows.height + 12 }, part));
        x += 80;
      }
    });
  }

  const rungWords = { float: "float32 in ONNX Runtime", quantised: "quantised, in ONNX Runtime", compiled: "compiled, on this host", target: "compiled, on the target" };
  function ladderPicture(cell, width) {
    const rungs = cell.ladder;
    if (!rungs.length) return null;
    const lines = rungs.map(([rung, , text]) => `${rungWords[rung] || rung}${text ? `: ${text}` : ""}`);
    const shares = rungs.map(([, share]) => share).filter((share) => share !== null);
    const low = shares.length ? Math.min(...shares) : 0;
    const high = shares.length ? Math.max(...shares) : 1;
    const [from, to] = high - low < 1e-9 ? [Math.max(0, low - 0.01), Math.min(1, high + 0.01)] : [low, high];
    const rows = stack(lines, shares.length ? 12 : 0, width);
    return picture("Accuracy ladder", lines, rows.height + (shares.length ? 18 : 0), width, (drawing) => {
      const x = scale(from, to, width);
      const points = [];
      rows.draw(drawing, (row, top) => {
        const share = rungs[row][1];
        if (share !== null) points.push([x(share), top + 6]);
      });
      drawing.append(svg("polyline", { class: "path", points: points.map((point) => point.join(",")).join(" ") }));
      for (const [cx, cy] of points) drawing.append(svg("circle", { class: "c0", cx, cy, r: 5 }));
      if (shares.length) axis(drawing, from, to, rows.height, width, "share");
    }, shares.length && from > 0 ? "Each step down is one step of the way onto the board. The axis does not begin at zero." : "");
  }

  function layerPicture(cell, width) {
    const layers = cell.layers;
    if (!layers.length) return null;
    const longest = Math.max(...layers.map(([, value]) => value)) || 1;
    const lines = layers.map(([layer, , text]) => `${layer}: ${text}`);
    const rows = stack(lines, 10, width);
    return picture("Time per layer", lines, rows.height, width, (drawing) => {
      rows.draw(drawing, (row, top) => {
        const length = Math.max(1, (layers[row][1] / longest) * (width - 2 * MARGIN));
        drawing.append(svg("rect", { class: "c0", x: MARGIN, y: top, width: length, height: 10 }));
      });
    });
  }

  /** Operations a second over operations a byte; the roofs are the highest rates that anything of this board reached. */
  function roofPicture(cell, width) {
    if (!cell.roof.length) return null;
    const same = cells.filter((other) => other.roof.length && other.board === cell.board && other.target === cell.target && other.label === cell.label);
    const points = same.flatMap((other) => other.roof);
    const peak = Math.max(...points.map(([, , rate]) => rate));
    const bandwidth = Math.max(...points.map(([, , , traffic]) => traffic));
    const [whole, ...layerPoints] = cell.roof;
    const worth = cell.label ? `, ${cell.label}` : "";
    const rated = ([what, intensity, rate]) => {
      const share = rate / Math.min(peak, bandwidth * intensity);
      return `${what}: ${tick(rate, "operations")}, ${+intensity.toPrecision(3)} operations a byte, ${(share * 100).toFixed(0)} % of the roof (estimate${worth})`;
    };
    const heads = [rated(whole), `roofs, estimates from what ${same.length} cell${same.length === 1 ? "" : "s"} of this board reached: ${tick(peak, "operations")} and ${tick(bandwidth, "traffic")}${worth}`];
    const rows = stack(heads, 0, width);
    const [top, bottom] = [rows.height + 8, rows.height + 150];
    const range = (values) => [Math.log(Math.min(...values) / 1.5), Math.log(Math.max(...values) * 1.5)];
    const [left, right] = range([...points.map(([, intensity]) => intensity), peak / bandwidth]);
    const [low, high] = range([...points.map(([, , rate]) => rate), peak]);
    return picture("Roofline", [...heads, ...layerPoints.slice(0, 10).map(rated)], bottom + 18, width, (drawing) => {
      const x = (value) => MARGIN + ((Math.log(value) - left) / (right - left)) * (width - 2 * MARGIN);
      const y = (value) => bottom - ((Math.log(value) - low) / (high - low)) * (bottom - top);
      rows.draw(drawing, () => {});
      const start = Math.max(Math.exp(left), Math.exp(low) / bandwidth);
      const roof = [[start, bandwidth * start], [peak / bandwidth, peak], [Math.exp(right), peak]];
      drawing.append(svg("polyline", { class: "roof", points: roof.map(([one, other]) => `${x(one)},${y(other)}`).join(" ") }));
      const dots = [
        ...same.filter((other) => other !== cell).map((other) => [other.roof[0], "faint-dot", 3, other.id]),
        ...layerPoints.map((point) => [point, "c1", 3, point[0]]),
        [whole, "c0", 6, cell.id],
      ];
      for (const [point, kind, r, text] of dots) {
        const told = svg("title", {}, `${text}: ${tick(point[2], "operations")} at ${+point[1].toPrecision(3)} operations a byte (estimate${worth})`);
        drawing.append(svg("circle", { class: kind, cx: x(point[1]), cy: y(point[2]), r }, told));
      }
      drawing.append(svg("line", { class: "axis", x1: MARGIN, x2: width - MARGIN, y1: bottom, y2: bottom }));
      drawing.append(svg("text", { class: "faint", x: MARGIN, y: bottom + 14 }, "operations a byte"));
      drawing.append(svg("text", { class: "faint", x: width - MARGIN, y: bottom + 14, "text-anchor": "end" }, `${+Math.exp(right).toPrecision(2)}`));
    }, layerPoints.length ? "Large: the whole run. Small: its layers, other cells of the board faint." : "Large: this cell; other cells of the board faint.");
  }

  function historyPicture([metric, board, label, points], width) {
    const started = (point) => data.runs[point[0]][1];
    const named = (text) => (label ? `${text} (${label})` : text);
    const values = points.map(([, value]) => value);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const textOf = (value) => points.find((point) => point[1] === value)[2];
    const last = points[points.length - 1];
    const marked = points.filter((point) => point[3]);
    const marks = marked.map((point) => `${point[3]}, ${started(point).slice(0, 10)}`);
    const range = `${points.length} runs from ${started(points[0]).slice(0, 10)} to ${started(last).slice(0, 10)}, ${named(textOf(low))} to ${named(textOf(high))}, last ${named(last[2])}`;
    const caption = `History of ${metric}${board ? ` on ${board}` : ""}${label ? ` (${label})` : ""}`;
    const rows = stack([range, ...marks.map((text, at) => `${at + 1}: ${text}`)], 0, width);
    const height = rows.height + 96;
    return picture(caption, [range, ...marks], height, width, (drawing) => {
      const x = scale(0, points.length - 1, width);
      const bottom = height - 6;
      const y = (value) => bottom - 8 - (high > low ? ((value - low) / (high - low)) * 60 : 30);
      rows.draw(drawing, () => {});
      drawing.append(svg("line", { class: "axis", x1: MARGIN, x2: width - MARGIN, y1: bottom, y2: bottom }));
      drawing.append(svg("polyline", { class: "path", points: points.map(([, value], at) => `${x(at)},${y(value)}`).join(" ") }));
      points.forEach((point, at) => {
        const [, value, text, mark] = point;
        const told = svg("title", {}, `${started(point)} ${data.runs[point[0]][0]}: ${named(text)}${mark ? `, ${mark}` : ""}`);
        drawing.append(svg("circle", { class: mark ? "mark" : "c0", cx: x(at), cy: y(value), r: mark ? 5 : 3 }, told));
        if (mark) drawing.append(svg("text", { class: "mark", x: x(at), y: y(value) - 8, "text-anchor": "middle" }, String(marked.indexOf(point) + 1)));
      });
    });
  }

  // ---- the dialog of a cell

  const dialog = find("detail");
  const place = (index) => `P${index + 1}`;

  function checkRow([check, status, value, limit, message, note, at, details, more, command]) {
    const told = element("div", {}, message);
    if (details >= 0) {
      const items = data.details[details].map((line) => element("li", {}, line));
      if (more) items.push(element("li", {}, `and ${more} more in results.jsonl`));
      told.append(element("details", {}, element("summary", {}, "details"), element("ul", { class: "small" }, ...items)));
    }
    if (at) told.append(element("div", { class: "hint small" }, `declared at ${at}`));
    if (command) told.append(commandBlock(command));
    return [check, badge(status), value + (note ? ` (${note})` : ""), limit, told];
  }
  function jobRow([stage, state, seconds, told, log, board, image, key, command]) {
    const more = element("div", {}, told);
    const facts = [["log", log], ["board", board], ["image", image], ["key", key]].filter(([, value]) => value);
    for (const [fact, value] of facts) more.append(element("div", { class: "hint small" }, `${fact} `, element("code", {}, value)));
    if (command) more.append(commandBlock(command));
    return [stage, state, seconds, more];
  }
  function section(heading, ...children) {
    return element("section", {}, element("h3", {}, heading), ...children);
  }
  function numbersSection(cell) {
    const lines = cell.numbers.map(([number, text, exact, samples, at]) => [number, text, element("code", {}, exact), samples ? String(samples) : "", place(at)]);
    const used = [...new Set(cell.numbers.map((number) => number[4]))];
    const places = used.map((at) => element("section", {}, element("h4", {}, `${place(at)}: where and with what`),
      element("dl", {}, ...data.places[at].flatMap(([key, value]) => [element("dt", {}, key), element("dd", {}, value)]))));
    return section("Numbers", table("numbers", ["number", "value", "exactly", "samples", "where"], lines), ...places);
  }

  function detail(cell) {
    const at = order.indexOf(indexOf.get(cell.id));
    const step = (label, by) => {
      const button = element("button", { type: "button" }, label);
      button.disabled = !(order[at + by] >= 0);
      button.addEventListener("click", () => open(order[at + by]));
      return button;
    };
    const close = element("button", { type: "button", id: "close" }, "Close");
    close.addEventListener("click", () => dialog.close());
    const bar = element("div", { class: "bar" }, element("h2", { id: "detail-title" }, cell.id, " ", badge(cell.state)), element("div", { class: "steps" }, step("Previous", -1), step("Next", 1), close));
    const wide = dialog.clientWidth || innerWidth;
    const width = Math.max(260, Math.min(480, wide - 80));
    const pictures = [ladderPicture(cell, width), latencyPicture(cell, width), sizePicture(cell, width), layerPicture(cell, width), roofPicture(cell, width), ...cell.history.map((series) => historyPicture(series, width))];
    const body = [
      cell.cause ? element("p", {}, cell.cause) : null,
      cell.label ? element("p", { class: "hint" }, `Times of this cell are ${cell.label}: they say nothing about a real board.`) : null,
      cell.command ? section("To reproduce", commandBlock(cell.command)) : null,
      element("div", { class: "pictures" }, ...pictures.filter(Boolean)),
      cell.checks.length ? section("Checks", table("checks", ["check", "status", "value", "limit", "message"], cell.checks.map(checkRow))) : null,
      cell.numbers.length ? numbersSection(cell) : null,
      cell.jobs.length ? section("Jobs", table("jobs", ["stage", "state", "took", "about it"], cell.jobs.map(jobRow))) : null,
    ];
    dialog.replaceChildren(bar, ...body.filter(Boolean));
    dialog.scrollTop = 0;
  }

  function address(fragment) {
    try {
      history.replaceState(null, "", fragment || location.href.split("#")[0]);
    } catch {
      // a page that was opened in a frame of its own origin keeps its address
    }
  }
  function open(index) {
    if (!dialog.open) dialog.showModal();
    detail(cells[index]);
    find("close").focus();
    address(`#cell=${encodeURIComponent(cells[index].id)}`);
  }
  function openAddressed() {
    const [, name] = location.hash.match(/^#cell=(.*)$/s) || [];
    if (name === undefined) return;
    let index;
    try {
      index = indexOf.get(decodeURIComponent(name));
    } catch {
      return; // an address that somebody cut
    }
    if (index !== undefined) open(index);
  }
  dialog.addEventListener("close", () => address(""));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  addEventListener("hashchange", openAddressed);
  openAddressed();
})();
