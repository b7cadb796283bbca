/* The page's only script: tables that sort, and the explorer of examples. It asks for nothing, keeps
   nothing, and puts text of the data into the page as text only. Without it the page is whole. */
"use strict";
(() => {
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const draw = (tag, attributes = {}, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };

  // ---- tables ---------------------------------------------------------------------------------

  const SEARCHED_FROM = 8; // rows

  const value = (row, column) => row.cells[column].dataset.value;

  function sortBy(table, head, column) {
    const descending = head.getAttribute("aria-sort") !== "descending";
    const rows = [...table.tBodies[0].rows];
    const sign = descending ? -1 : 1;
    rows.sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      if (x !== undefined && y !== undefined) return sign * (x - y);
      if (x !== undefined || y !== undefined) return x === undefined ? 1 : -1; // unknown: last
      const [s, t] = [a.cells[column].textContent, b.cells[column].textContent];
      if (!s !== !t) return s ? -1 : 1;
      return -sign * s.localeCompare(t, "en", { numeric: true });
    });
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
  }

  function asText(table) {
    const shown = [...table.rows].filter((row) => !row.hidden);
    const text = shown.map((row) => [...row.cells].map((c) => c.textContent.trim()).join("\t")).join("\n");
    return text.replaceAll("\u2212", "-"); // as programs read numbers
  }

  async function copy(table, button) {
    const text = asText(table);
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { class: "aside" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }

  function equip(table) {
    const tools = make("div", { class: "tools" });
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = make("button", { type: "button", class: "sort", title: head.title });
      button.append(head.textContent || "name");
      head.dataset.title = button.textContent; // in print, buttons are not repeated with their heads
      if (!head.textContent) button.classList.add("unnamed");
      head.replaceChildren(button);
      button.addEventListener("click", () => sortBy(table, head, column));
    }
    if (table.querySelector(".folded")) {
      table.classList.add("short");
      const more = make("button", { type: "button", "aria-expanded": "false" }, "All columns");
      more.addEventListener("click", () => {
        const short = table.classList.toggle("short");
        more.setAttribute("aria-expanded", String(!short));
        more.textContent = short ? "All columns" : "Fewer columns";
      });
      tools.append(more);
    }
    if (table.tBodies[0].rows.length >= SEARCHED_FROM) {
      const field = make("input", { type: "search", placeholder: "Search rows" });
      field.setAttribute("aria-label", `Search rows: ${table.dataset.title}`);
      field.addEventListener("input", () => {
        const words = field.value.toLowerCase().split(/\s+/);
        for (const row of table.tBodies[0].rows) {
          const text = row.textContent.toLowerCase().replaceAll("\u2212", "-");
          row.hidden = !words.every((word) => text.includes(word));
        }
      });
      tools.append(field);
    }
    const button = make("button", { type: "button" }, "Copy");
    button.addEventListener("click", () => copy(table, button));
    tools.append(button);
    table.parentElement.before(tools);
  }

  // ---- the explorer: its data -----------------------------------------------------------------

  function bytes(text) {
    const binary = atob(text);
    const found = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) found[i] = binary.charCodeAt(i);
    return found;
  }
  const MISSING = 65535;
  function decoded(column) {
    const raw = new Uint16Array(bytes(column.data).buffer);
    const found = new Float32Array(raw.length);
    const step = (column.high - column.low) / (MISSING - 1);
    for (let i = 0; i < raw.length; i++) {
      found[i] = raw[i] === MISSING ? NaN : column.low + raw[i] * step;
    }
    return found;
  }
  /** Write a number; `step` is what it travelled in, and less than that is nothing. */
  function number(x, step = 0) {
    if (Math.abs(x) < step) return "0";
    if (Number.isNaN(x)) return "unknown";
    return Math.abs(x) >= 1e4 || (x !== 0 && Math.abs(x) < 1e-3)
      ? x.toExponential(2) : String(Number(x.toPrecision(3)));
  }

  function ticks(low, high, count) {
    const span = high - low;
    const base = 10 ** Math.floor(Math.log10(span / count));
    const step = [1, 2, 5, 10].map((m) => m * base).find((s) => span / s <= count);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * span; k++) {
      found.push(Number((k * step).toPrecision(6)));
    }
    return found;
  }

  // ---- the explorer: what is seen -------------------------------------------------------------

  const CELL = 12; // pixels: side of a cell of the index of points
  const MARGIN = { left: 64, right: 12, top: 10, bottom: 44 };
  const LISTED = 12;

  class Explorer {
    constructor(room, data) {
      this.room = room;
      this.n = data.count;
      this.data = data;
      this.column = new Map(data.columns.map((c) => [c.key, { ...c, values: decoded(c) }]));
      this.label = new Uint16Array(bytes(data.labels).buffer);
      this.neighbour = new Int32Array(bytes(data.neighbours).buffer);
      this.odds = data.odds ? bytes(data.odds.data) : null;
      this.tile = data.pictures ? new Int32Array(bytes(data.pictures.tiles).buffer) : null;
      if (data.pictures) {
        this.atlas = new Image();
        this.atlas.src = data.pictures.url;
      }
      this.side = this.n > 20000 ? 2 : this.n > 3000 ? 3 : 5; // pixels of a point
      this.shown = new Uint8Array(this.n).fill(1);
      this.brushed = null;
      this.current = -1;
      this.canvas = room.querySelector("canvas.points");
      this.over = room.querySelector("canvas.over");
      this.tip = room.querySelector(".tip");
      this.card = room.querySelector(".card");
      this.list = room.querySelector(".chosen");
      this.status = room.querySelector(".status");
      this.controls();
      this.pointer();
      this.keyboard();
      this.scheme = matchMedia("(prefers-color-scheme: dark)");
      this.scheme.addEventListener("change", () => this.paint());
      new ResizeObserver(() => this.resize()).observe(this.canvas.parentElement);
      this.resize();
      this.filter();
    }

    /** What an example is called: its id and, where there are several, its class. */
    called(i, mark = ", ") {
      const { ids, names } = this.data;
      return names.length < 2 ? ids[i] : ids[i] + mark + names[this.label[i]];
    }

    field(name) { return this.room.querySelector(`[name="${name}"]`); }

    controls() {
      const option = (c) => make("option", { value: c.key }, c.title);
      const of = (keys) => keys.map((key) => option(this.column.get(key)));
      this.field("x").append(...of(this.data.x));
      this.field("y").append(...of(this.data.y));
      const order = this.data.names.map((name, i) => [name, i])
        .sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
      this.field("class").append(...order.map(([name, i]) => make("option", { value: i }, name)));
      this.group = this.data.groups ? new Uint8Array(bytes(this.data.groups.codes)) : null;
      if (this.data.names.length < 2) this.field("class").closest("label").hidden = true;
      if (this.group) {
        this.field("group").append(...this.data.groups.names.map((name, i) => make("option", { value: i }, name || "(none)")));
      } else {
        this.field("group").closest("label").hidden = true;
      }
      for (const name of ["x", "y"]) {
        this.field(name).addEventListener("change", () => { this.brushed = null; this.place(); this.filter(); });
      }
      for (const name of ["class", "group", "duplicates", "low", "high", "id"]) {
        this.field(name).addEventListener("input", () => this.filter());
      }
      if (!this.column.has("duplicates")) this.field("duplicates").closest("label").hidden = true;
      this.room.querySelector(".clear").addEventListener("click", () => {
        for (const name of ["class", "group", "duplicates", "id"]) this.field(name).value = "";
        this.field("low").value = 0;
        this.field("high").value = 100;
        this.brushed = null;
        this.filter();
      });
    }

    resize() {
      const width = this.canvas.parentElement.clientWidth;
      if (!width || width === this.width) return;
      this.width = width;
      this.height = Math.round(Math.min(520, Math.max(300, width * 0.62)));
      this.ratio = Math.min(2, window.devicePixelRatio || 1);
      for (const canvas of [this.canvas, this.over]) {
        canvas.width = width * this.ratio;
        canvas.height = this.height * this.ratio;
        canvas.style.height = `${this.height}px`;
      }
      this.place();
      this.paint();
      this.paintOver();
    }

    /** Put every point where it belongs, and index the points by cells. */
    place() {
      const ends = (values) => {
        let [low, high] = [Infinity, -Infinity];
        for (const v of values) { if (v < low) low = v; if (v > high) high = v; }
        if (!(high > low)) [low, high] = Number.isFinite(low) ? [low - 0.5, low + 0.5] : [0, 1];
        const pad = 0.02 * (high - low);
        return [low - pad, high + pad];
      };
      const [xs, ys] = ["x", "y"].map((name) => this.column.get(this.field(name).value).values);
      this.ends = { x: ends(xs), y: ends(ys) };
      const inner = [this.width - MARGIN.left - MARGIN.right, this.height - MARGIN.top - MARGIN.bottom];
      this.px = new Float32Array(this.n);
      this.py = new Float32Array(this.n);
      for (let i = 0; i < this.n; i++) {
        this.px[i] = MARGIN.left + (xs[i] - this.ends.x[0]) / (this.ends.x[1] - this.ends.x[0]) * inner[0];
        this.py[i] = MARGIN.top + (this.ends.y[1] - ys[i]) / (this.ends.y[1] - this.ends.y[0]) * inner[1];
      }
      this.across = Math.ceil(this.width / CELL);
      const cells = this.across * Math.ceil(this.height / CELL);
      this.first = new Int32Array(cells + 1);
      this.cell = new Int32Array(this.n).fill(-1);
      for (let i = 0; i < this.n; i++) {
        if (Number.isNaN(this.px[i] + this.py[i])) continue;
        this.cell[i] = Math.floor(this.py[i] / CELL) * this.across + Math.floor(this.px[i] / CELL);
        this.first[this.cell[i] + 1]++;
      }
      for (let c = 0; c < cells; c++) this.first[c + 1] += this.first[c];
      const next = this.first.slice();
      this.inCell = new Int32Array(this.n);
      for (let i = 0; i < this.n; i++) if (this.cell[i] >= 0) this.inCell[next[this.cell[i]]++] = i;
    }

    filter() {
      if (!this.cell) return; // nothing is laid out, as on paper
      const [low, high] = ["low", "high"].map((name) => Number(this.field(name).value) / 100);
      const rate = this.column.get("rate").values;
      const wanted = this.field("class").value;
      const group = this.field("group").value;
      const twins = this.field("duplicates").value;
      const copies = this.column.get("duplicates")?.values;
      const id = this.field("id").value.trim();
      for (let i = 0; i < this.n; i++) {
        this.shown[i] = this.cell[i] >= 0
          && (wanted === "" || this.label[i] === Number(wanted))
          && (group === "" || this.group[i] === Number(group))
          && !(rate[i] < low - 1e-6) && !(rate[i] > high + 1e-6)
          && (twins === "" || (copies[i] > 0.5) === (twins === "yes"))
          && (id === "" || this.data.ids[i] === id) ? 1 : 0;
      }
      this.paint();
      this.select();
    }

    colour(name) { return getComputedStyle(this.room).getPropertyValue(name).trim(); }

    /** Draw points into a picture: the more lie on a pixel, the stronger it is. */
    points(context, chosen, colour, faint) {
      const [w, h] = [this.canvas.width, this.canvas.height];
      const image = context.createImageData(w, h);
      const counts = this.counts?.length === w * h ? this.counts.fill(0) : (this.counts = new Uint16Array(w * h));
      const size = Math.round(this.side * this.ratio);
      for (let i = 0; i < this.n; i++) {
        if (!chosen[i]) continue;
        const left = Math.round(this.px[i] * this.ratio - size / 2);
        const top = Math.round(this.py[i] * this.ratio - size / 2);
        for (let y = top; y < top + size; y++) {
          for (let x = left; x < left + size; x++) counts[y * w + x]++;
        }
      }
      const rgb = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
      const whole = (rgb[2] << 16) | (rgb[1] << 8) | rgb[0];
      const pixels = new Uint32Array(image.data.buffer);
      for (let k = 0; k < counts.length; k++) {
        if (counts[k]) pixels[k] = (Math.min(255, faint + 40 * counts[k]) << 24) | whole;
      }
      context.putImageData(image, 0, 0);
    }

    paint() {
      if (!this.width) return;
      const context = this.canvas.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      this.points(context, this.shown, this.colour("--series-1"), 110);
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      context.strokeStyle = this.colour("--muted");
      context.fillStyle = this.colour("--ink");
      context.font = `13px ${this.colour("--sans")}`;
      const [bottom, right] = [this.height - MARGIN.bottom, this.width - MARGIN.right];
      context.beginPath();
      context.moveTo(MARGIN.left, MARGIN.top);
      context.lineTo(MARGIN.left, bottom);
      context.lineTo(right, bottom);
      context.stroke();
      context.textAlign = "center";
      for (const t of ticks(...this.ends.x, this.width < 500 ? 4 : 8)) {
        const x = MARGIN.left + (t - this.ends.x[0]) / (this.ends.x[1] - this.ends.x[0]) * (right - MARGIN.left);
        context.fillText(String(t), x, bottom + 17);
      }
      context.fillText(this.column.get(this.field("x").value).title, (MARGIN.left + right) / 2, bottom + 37);
      context.textAlign = "right";
      for (const t of ticks(...this.ends.y, 6)) {
        const y = MARGIN.top + (this.ends.y[1] - t) / (this.ends.y[1] - this.ends.y[0]) * (bottom - MARGIN.top);
        context.fillText(String(t), MARGIN.left - 8, y + 4);
      }
      context.save();
      context.translate(16, (MARGIN.top + bottom) / 2);
      context.rotate(-Math.PI / 2);
      context.textAlign = "center";
      context.fillText(this.column.get(this.field("y").value).title, 0, 0);
      context.restore();
    }

    /** Choose what is shown and inside the brush; say how many; list the most exposed. */
    select() {
      const box = this.brushed;
      const chosen = this.chosen ?? (this.chosen = new Uint8Array(this.n));
      let count = 0;
      for (let i = 0; i < this.n; i++) {
        chosen[i] = this.shown[i] && (!box || (this.px[i] >= box[0] && this.px[i] <= box[2]
          && this.py[i] >= box[1] && this.py[i] <= box[3])) ? 1 : 0;
        count += chosen[i];
      }
      this.count = count;
      this.status.textContent = `${count.toLocaleString("en")} of ${this.n.toLocaleString("en")} examples`;
      this.paintOver();
      if (!this.dragging) this.showList();
    }

    showList() {
      const rank = this.column.get("exposure").values;
      const best = [];
      for (let i = 0; i < this.n; i++) {
        if (!this.chosen[i] || Number.isNaN(rank[i])) continue;
        if (best.length < LISTED || rank[i] > rank[best[best.length - 1]]) {
          let k = best.length;
          while (k > 0 && rank[best[k - 1]] < rank[i]) k--;
          best.splice(k, 0, i);
          if (best.length > LISTED) best.pop();
        }
      }
      this.list.replaceChildren(...best.map((i) => {
        const button = make("button", { type: "button" },
          `${this.called(i, " · ")} · ${number(rank[i])}`);
        button.addEventListener("click", () => this.open(i));
        return make("li", {}, button);
      }));
    }

    paintOver() {
      const context = this.over.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.over.width, this.over.height);
      if (this.brushed) {
        this.points(context, this.chosen, this.colour("--series-2"), 255);
        context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
        const [x0, y0, x1, y1] = this.brushed;
        context.strokeStyle = this.colour("--ink");
        context.setLineDash([4, 3]);
        context.strokeRect(x0, y0, x1 - x0, y1 - y0);
        context.setLineDash([]);
      }
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      if (this.current >= 0 && this.cell[this.current] >= 0) {
        context.strokeStyle = this.colour("--ink");
        context.lineWidth = 2;
        context.beginPath();
        context.arc(this.px[this.current], this.py[this.current], 7, 0, 2 * Math.PI);
        context.stroke();
        context.lineWidth = 1;
      }
    }

    nearest(x, y) {
      let [best, least] = [-1, 144];
      const [column, row] = [Math.floor(x / CELL), Math.floor(y / CELL)];
      for (let r = Math.max(0, row - 1); r <= row + 1; r++) {
        for (let c = Math.max(0, column - 1); c <= Math.min(this.across - 1, column + 1); c++) {
          const cell = r * this.across + c;
          for (let k = this.first[cell]; k < (this.first[cell + 1] ?? 0); k++) {
            const i = this.inCell[k];
            const far = (this.px[i] - x) ** 2 + (this.py[i] - y) ** 2;
            if (this.shown[i] && far < least) [best, least] = [i, far];
          }
        }
      }
      return best;
    }

    at(event) {
      const box = this.over.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    }

    pointer() {
      let start = null;
      this.over.addEventListener("pointerdown", (event) => {
        start = this.at(event);
        this.over.setPointerCapture(event.pointerId);
      });
      this.over.addEventListener("pointermove", (event) => {
        const [x, y] = this.at(event);
        if (start && Math.hypot(x - start[0], y - start[1]) > 4) this.brush(start[0], start[1], x, y);
        else if (!start) this.hover(this.nearest(x, y));
      });
      this.over.addEventListener("pointerup", (event) => {
        const [x, y] = this.at(event);
        const clicked = start && Math.hypot(x - start[0], y - start[1]) <= 4;
        start = null;
        this.dragging = false;
        if (!clicked) { this.select(); return; }
        const found = this.nearest(x, y);
        if (found >= 0) this.open(found);
        else { this.brushed = null; this.select(); }
      });
      this.over.addEventListener("pointercancel", () => { start = null; this.dragging = false; });
      this.over.addEventListener("pointerleave", () => this.hover(-1));
    }

    brush(x0, y0, x1, y1) {
      this.dragging = true;
      this.hover(-1);
      this.brushed = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
      this.select();
    }

    hover(i) {
      this.tip.hidden = i < 0;
      if (i < 0) return;
      const [x, y] = ["x", "y"].map((name) => this.column.get(this.field(name).value));
      const text = this.called(i);
      const lines = [text, ...[x, y].map((c) => `${c.title}: ${number(c.values[i])}`)];
      const picture = this.picture(i, 56);
      this.tip.replaceChildren(...(picture ? [picture] : []), ...lines.map((l) => make("div", {}, l)));
      const right = this.px[i] > this.width / 2;
      this.tip.style.left = right ? "" : `${this.px[i] + 14}px`;
      this.tip.style.right = right ? `${this.width - this.px[i] + 14}px` : "";
      this.tip.style.top = `${Math.min(this.py[i], this.height - 120)}px`;
    }

    /** Arrows go to the next point shown, by the axis across or up; Enter opens its card. */
    keyboard() {
      this.over.addEventListener("keydown", (event) => {
        const axis = { ArrowRight: [this.px, 1], ArrowLeft: [this.px, -1], ArrowUp: [this.py, -1], ArrowDown: [this.py, 1] }[event.key];
        if (axis) { event.preventDefault(); this.step(...axis); }
        else if (event.key === "Enter" && this.current >= 0) this.open(this.current);
        else if (event.key === "Escape") { this.brushed = null; this.hover(-1); this.select(); }
      });
    }

    step(places, sign) {
      let best = -1;
      const from = this.current >= 0 ? sign * places[this.current] : -Infinity;
      for (let i = 0; i < this.n; i++) {
        if (!this.chosen[i] || i === this.current) continue;
        const ahead = sign * places[i];
        const later = ahead > from || (ahead === from && i > this.current);
        if (later && (best < 0 || ahead < sign * places[best])) best = i;
      }
      if (best < 0) return;
      this.current = best;
      this.paintOver();
      this.hover(best);
      this.status.textContent = `${this.called(best)}; Enter opens its card`;
    }

    // ---- the card -----------------------------------------------------------------------------

    picture(i, side) {
      if (!this.tile || i < 0 || this.tile[i] < 0) return null;
      const { width, height, across } = this.data.pictures;
      const scale = Math.max(1, Math.floor(side / Math.max(width, height)));
      const canvas = make("canvas", { width: width * scale, height: height * scale, role: "img" });
      canvas.setAttribute("aria-label", `Picture of ${this.data.ids[i]}`);
      const paint = () => {
        const context = canvas.getContext("2d");
        context.imageSmoothingEnabled = false;
        const [row, column] = [Math.floor(this.tile[i] / across), this.tile[i] % across];
        context.drawImage(this.atlas, column * width, row * height, width, height, 0, 0, width * scale, height * scale);
      };
      if (this.atlas.complete) paint();
      else this.atlas.addEventListener("load", paint, { once: true });
      return canvas;
    }

    open(i) {
      this.current = i;
      this.paintOver();
      const head = make("h3", { tabindex: "-1" }, `Example ${this.called(i)}`);
      const close = make("button", { type: "button", class: "close" }, "Close");
      close.addEventListener("click", () => this.close());
      const parts = [make("div", { class: "bar" }, head, close)];
      const near = this.neighbour[i];
      const pair = [[i, "this one"], [near, "nearest training example"]]
        .map(([k, text]) => [this.picture(k, 120), text]).filter(([p]) => p)
        .map(([p, text]) => make("figure", {}, p, make("figcaption", {}, text)));
      if (pair.length) parts.push(make("div", { class: "pair" }, ...pair));
      if (near >= 0) {
        const go = make("button", { type: "button" }, this.called(near));
        go.addEventListener("click", () => this.open(near));
        parts.push(make("p", {}, `Nearest training example in most ${this.data.unit}s: `, go));
      }
      parts.push(this.oddsFigure(i));
      const rows = [];
      const own = this.group && this.data.groups.names[this.group[i]];
      if (own) rows.push(make("div", {}, make("dt", {}, "group"), make("dd", {}, own)));
      for (const c of this.column.values()) {
        if (c.hidden || Number.isNaN(c.values[i])) continue;
        const step = (c.high - c.low) / (MISSING - 1);
        let text = c.percent ? `${Math.round(100 * c.values[i])}%` : number(c.values[i], step);
        if (c.flag) text = c.values[i] > 0.5 ? "yes" : "no";
        const ends = [`${c.key}_low`, `${c.key}_high`].map((key) => this.column.get(key)?.values[i]);
        if (ends.every((e) => e !== undefined && !Number.isNaN(e))) text += ` [${ends.map((e) => number(e, step)).join(", ")}]`;
        const noise = c.reliability === undefined ? "" : ` (reliability ${c.reliability.toFixed(2)})`;
        rows.push(make("div", {}, make("dt", { title: c.meaning }, c.title), make("dd", {}, text + noise)));
      }
      parts.push(make("dl", { class: "facts" }, ...rows));
      this.card.replaceChildren(...parts.filter(Boolean));
      this.card.hidden = false;
      head.focus();
    }

    close() {
      this.card.hidden = true;
      this.over.focus();
    }

    /** Log-odds of the trials in and out, with the two normal distributions that LiRA compares. */
    oddsFigure(i) {
      const [mi, si, mo, so] = ["mean_in", "sd_in", "mean_out", "sd_out"].map((key) => this.column.get(key)?.values[i]);
      if (!this.odds || mo === undefined) return null;
      const { trials, low, high } = this.data.odds;
      const sides = [[], []];
      for (let t = 0; t < trials; t++) {
        const byte = this.odds[i * trials + t];
        if ((byte & 127) < 127) sides[byte >> 7].push(low + (byte & 127) / 126 * (high - low));
      }
      const spread = [[mo, so], [mi, si]].flatMap(([m, s]) => (Number.isNaN(m + s) ? [] : [m - 3 * s, m + 3 * s]));
      let [a, b] = [Math.min(...sides.flat(), ...spread), Math.max(...sides.flat(), ...spread)];
      if (!Number.isFinite(a + b)) return null;
      if (!(b > a)) [a, b] = [a - 1, b + 1];
      const [width, height] = [340, 172];
      const at = (v) => 8 + (v - a) / (b - a) * (width - 16);
      const said = `${this.data.odds.title}: mean ${number(mi)} as member, ${number(mo)} as non-member`;
      const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said, class: "odds" });
      const peak = Math.max(...[si, so].filter((s) => s > 0).map((s) => 1 / s), 0);
      for (const [k, [m, s, kind]] of [[mo, so, "out"], [mi, si, "in"]].entries()) {
        if (s > 0) {
          const path = [];
          for (let p = 0; p <= 80; p++) {
            const v = a + p / 80 * (b - a);
            path.push(`${at(v).toFixed(1)},${(96 - 78 / s / peak * Math.exp(-(((v - m) / s) ** 2) / 2)).toFixed(1)}`);
          }
          svg.append(draw("polyline", { points: path.join(" "), class: `curve ${kind}` }));
        }
        for (const v of sides[k]) {
          svg.append(draw("line", { x1: at(v), x2: at(v), y1: 102 + 14 * k, y2: 113 + 14 * k, class: `mark ${kind}` }));
        }
      }
      for (const t of ticks(a, b, 5)) {
        svg.append(draw("text", { x: at(t), y: 146, "text-anchor": "middle" }, String(t)));
      }
      svg.append(draw("text", { x: width / 2, y: 166, "text-anchor": "middle" }, this.data.odds.title));
      const count = (k) => `${sides[k].length} ${this.data.unit}${sides[k].length === 1 ? "" : "s"}`;
      const key = make("p", { class: "key" }, make("span", { class: "in" }, `as member (${count(1)})`), " ",
        make("span", { class: "out" }, `as non-member (${count(0)})`));
      return make("div", {}, svg, key);
    }
  }

  for (const table of document.querySelectorAll("table.data")) equip(table);
  const source = document.getElementById("explorer-data");
  if (source) {
    const room = document.getElementById("explorer-room");
    room.hidden = false;
    window.confsimExplorer = new Explorer(room, JSON.parse(source.textContent));
  }
})();
