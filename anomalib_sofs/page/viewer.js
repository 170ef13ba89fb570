// The viewer: shows tiles of an image, what is marked and found on it, and says what somebody paints or decides.
// Runs once, with `element` (Gradio's element of it) and `trigger` (tells Gradio that settings have changed).
const TILE = 512, REJECTED = 254, IGNORED = 255, FOUND = 1000;
const LOWEST = -4, PER_STEP = 1 / 16; // of the threshold's logit, as in finds.py
const root = element.querySelector(".sofs");
const $ = (selector) => root.querySelector(selector);
const canvas = $(".sofs-canvas"), pen = canvas.getContext("2d");
const S = {
  state: null, image: null, tool: "look", step: 64, width: 9, tolerance: 24,
  x: 0, y: 0, zoom: 1, fitted: true, // centre of the view in pixels of the image, screen pixels per pixel
  tiles: new Map(), overlays: new Map(), regions: [], chosen: null, stroke: null, drag: null, busy: 0,
};
window.sofs = S;

// -- talking to the server ------------------------------------------------------------------------------------------

const address = (path, asked) => `${new URL(`sofs/${path}`, document.baseURI)}?${new URLSearchParams(asked)}`;

async function ask(path, asked = {}) {
  const answer = await fetch(address(path, asked));
  if (!answer.ok) throw new Error((await answer.json()).message);
  return answer;
}

async function say(path, body) {
  S.busy += 1;
  try {
    const answer = await fetch(address(path, {}), {
      method: "POST", headers: { "Content-Type": "application/json", "X-Anomalib-Sofs": "1" }, body: JSON.stringify(body),
    });
    const done = await answer.json();
    if (!answer.ok) complain(done.message);
    return answer.ok ? done : null;
  } catch (error) {
    complain(`The page does not answer: is it still running? (${error.message})`);
    return null;
  } finally {
    S.busy -= 1;
    await refresh();
  }
}

let quiet = 0;
function complain(message) {
  const box = $(".sofs-message");
  box.textContent = message;
  box.hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => { box.hidden = true; }, 9000);
}

async function refresh() {
  const answer = await fetch(address("state", { since: S.state ? S.state.changes : "" }));
  if (answer.status === 200) update(await answer.json());
}

async function poll() {
  try { await refresh(); } catch { $(".sofs-status").textContent = "The page does not answer. Everything is saved; start it again."; }
  setTimeout(poll, document.hidden ? 3000 : 500);
}

// -- state ----------------------------------------------------------------------------------------------------------

const current = () => S.state.images.find((image) => image.name === S.image);
const version = (image) => [image.revision, image.made_by, JSON.stringify(S.state.limits), S.state.classes.length].join("|");
const probability = (step) => 1 / (1 + Math.exp(-(step * PER_STEP + LOWEST)));
// From which step on a class is found on an image: only one beyond the limit that good parts have told shows it.
function limit(image, name) {
  const strict = Math.max(S.step, S.state.limits[name] || 0);
  return image.peaks[name] >= strict ? S.step : strict;
}
const sure = (image) => Math.max(-1, ...Object.values(image.peaks));
const isFound = (image) => Object.entries(image.peaks).some(([name, peak]) => peak >= Math.max(S.step, S.state.limits[name] || 0));
const percent = (step) => { const p = 100 * probability(step); return `${p > 99 ? p.toFixed(2) : p.toFixed(0)} %`; };

function update(state) {
  const before = S.state;
  S.state = state;
  if (!before || before.step !== state.step) { S.step = state.step; recolour(); }
  const otherwise = before && JSON.stringify([before.step, before.limits]) !== JSON.stringify([state.step, state.limits]);
  if (otherwise) trigger("change");
  if (JSON.stringify(before && before.classes) !== JSON.stringify(state.classes)) showClasses();
  showList();
  showStatus();
  if (!S.image) open(sorted()[0].name);
  else if (before) {
    const old = before.images.find((image) => image.name === S.image);
    if (version(old) !== version(current()) || otherwise) { loadRegions(); draw(); }
  }
}

function sorted() {
  const searched = S.state.images.some((image) => image.score !== null);
  return searched ? [...S.state.images].sort((a, b) => isFound(b) - isFound(a) || sure(b) - sure(a)) : S.state.images;
}

function showClasses() {
  $("#sofs-classes").replaceChildren(...S.state.classes.map(({ name }) => Object.assign(document.createElement("option"), { value: name })));
  if (S.state.classes.length && !S.state.classes.some(({ name }) => name === $(".sofs-class").value)) $(".sofs-class").value = S.state.classes[0].name;
  showColour();
  recolour();
}

function showColour() {
  const known = S.state.classes.find(({ name }) => name === $(".sofs-class").value);
  $(".sofs-colour").disabled = !known;
  if (known) $(".sofs-colour").value = known.colour;
}

function showList() {
  const list = $(".sofs-list");
  const items = new Map([...list.children].map((item) => [item.dataset.name, item]));
  const wanted = sorted().map((image) => {
    const item = items.get(image.name) || newItem(image);
    const found = isFound(image);
    item.setAttribute("aria-selected", image.name === S.image);
    const [hit, decided] = item.querySelectorAll("small");
    hit.className = found ? "sofs-hit" : "";
    hit.textContent = image.score === null ? "not searched" : found ? `found, ${percent(sure(image))}` : "nothing found";
    const said = [...image.marked.map((name) => `marked: ${name}`), ...(image.good ? ["called good"] : []), ...(image.rejected ? ["rejected regions"] : [])];
    decided.textContent = said.join(", ");
    return item;
  });
  if (wanted.some((item, i) => list.children[i] !== item)) list.replaceChildren(...wanted);
  $(".sofs-count").textContent = `${wanted.length}`;
}

function newItem(image) {
  const item = document.createElement("button");
  item.className = "sofs-item";
  item.dataset.name = image.name;
  item.setAttribute("role", "option");
  item.title = image.name;
  const picture = Object.assign(new Image(), { loading: "lazy", alt: "", src: address("thumbnail", { image: image.name }) });
  const text = document.createElement("div");
  text.append(Object.assign(document.createElement("b"), { textContent: image.name }), document.createElement("small"), document.createElement("small"));
  item.append(picture, text);
  item.onclick = () => open(image.name);
  return item;
}

function showStatus() {
  const { running, phase, done, total, error, images } = S.state;
  const hits = images.filter(isFound).length, searched = images.filter((image) => image.score !== null).length;
  $(".sofs-progress div").style.width = running ? `${total ? (100 * done) / total : 3}%` : "0";
  let text = running ? `${phase}${total ? `: ${done} of ${total} images` : " ..."}` : error || "";
  if (!text && !searched) text = images.some((image) => image.marked.length) ? "Marked. Now press Find." : "Mark a defect on one image: choose Brush and paint over it. Then press Find.";
  if (!text && S.state.unsearched) text = `${hits} of ${searched} images show a defect, before your last corrections. Press Find again.`;
  if (!text) text = `${hits} of ${searched} images show a defect. Click a find, then say what it is.`;
  $(".sofs-status").textContent = text;
  const shown = document.getElementById("sofs-threshold");
  if (shown) {
    const strict = Object.entries(S.state.limits).map(([name, step]) => `${name}: ${percent(step)}`).join(", ");
    shown.textContent = `From a probability of ${percent(S.step)} on.${strict ? ` Good parts say, at least ${strict}.` : ""}`;
  }
}

function open(name) {
  Object.assign(S, { image: name, tiles: new Map(), overlays: new Map(), regions: [], chosen: null, stroke: null, fitted: true });
  showList();
  fit();
  loadRegions();
}

let asked = 0;
async function loadRegions() {
  const mine = ++asked, name = S.image;
  try {
    const regions = current().score === null ? [] : await (await ask("finds", { image: name, step: S.step })).json();
    if (mine !== asked) return;
    S.regions = regions;
    S.chosen = S.chosen && regions.find((region) => region.x === S.chosen.x && region.y === S.chosen.y) || null;
    showRegions();
    draw();
  } catch (error) { complain(error.message); }
}

function showRegions() {
  $(".sofs-finds .sofs-title span").textContent = current().score === null ? "" : `${S.regions.length}`;
  $(".sofs-regions").replaceChildren(...S.regions.slice(0, 60).map((region, number) => {
    const item = document.createElement("button");
    item.className = "sofs-item";
    item.setAttribute("aria-selected", region === S.chosen);
    const [x, y, width, height] = region.box;
    const picture = Object.assign(new Image(), { loading: "lazy", alt: "", src: address("cut", { image: S.image, x, y, width, height }) });
    const text = document.createElement("div");
    text.append(Object.assign(document.createElement("b"), { textContent: `${number + 1} ${region.label}` }),
      Object.assign(document.createElement("small"), { textContent: `${region.area} pixels` }),
      Object.assign(document.createElement("small"), { textContent: region.judged || percentOf(region.probability) }));
    item.append(picture, text);
    item.onclick = () => { choose(region); look(region.x, region.y, Math.max(S.zoom, ratio())); };
    return item;
  }));
  const chosen = S.chosen;
  $(".sofs-chosen").hidden = !chosen;
  if (chosen) {
    $(".sofs-about").textContent = `${chosen.label}: ${chosen.area} pixels, ${percentOf(chosen.probability)}`;
    $(".sofs-accept").textContent = `Defect: ${$(".sofs-class").value}`;
  }
}
const percentOf = (p) => `${(100 * p).toFixed(p > 0.99 ? 2 : 0)} %`;

function choose(region) { S.chosen = region; showRegions(); draw(); }

// -- view -----------------------------------------------------------------------------------------------------------

const ratio = () => window.devicePixelRatio || 1;
const toImage = (event) => {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * ratio() - canvas.width / 2) / S.zoom + S.x, ((event.clientY - box.top) * ratio() - canvas.height / 2) / S.zoom + S.y];
};
const toScreen = (x, y) => [(x - S.x) * S.zoom + canvas.width / 2, (y - S.y) * S.zoom + canvas.height / 2];

function fit() {
  const image = current();
  Object.assign(S, { x: image.width / 2, y: image.height / 2, zoom: 0.97 * Math.min(canvas.width / image.width, canvas.height / image.height), fitted: true });
  draw();
}

function look(x, y, zoom) { Object.assign(S, { x, y, zoom, fitted: false }); draw(); }

let planned = false;
function draw() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => { planned = false; if (S.state && S.image) paintAll(); });
}

function paintAll() {
  const image = current();
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = "#2b3036";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  const scale = Math.min(64, 2 ** Math.max(0, Math.floor(Math.log2(1 / S.zoom))));
  const step = TILE * scale, [left, top] = [S.x - canvas.width / 2 / S.zoom, S.y - canvas.height / 2 / S.zoom];
  const last = [Math.ceil(image.width / step) - 1, Math.ceil(image.height / step) - 1];
  pen.imageSmoothingEnabled = S.zoom * scale < 1;
  for (let row = Math.max(0, Math.floor(top / step)); row <= Math.min(last[1], Math.floor((top + canvas.height / S.zoom) / step)); row++) {
    for (let column = Math.max(0, Math.floor(left / step)); column <= Math.min(last[0], Math.floor((left + canvas.width / S.zoom) / step)); column++) {
      const [x, y] = toScreen(column * step, row * step);
      for (const drawn of [tile(scale, column, row), overlay(scale, column, row)]) {
        if (drawn) pen.drawImage(drawn, x, y, drawn.width * scale * S.zoom, drawn.height * scale * S.zoom);
      }
    }
  }
  if (S.chosen) {
    const [x, y, width, height] = S.chosen.box, [sx, sy] = toScreen(x - 3, y - 3);
    pen.lineWidth = 2 * ratio();
    for (const [colour, offset] of [["#fff", 0], ["#000", 6]]) {
      pen.strokeStyle = colour;
      pen.setLineDash([6, 6]);
      pen.lineDashOffset = offset;
      pen.strokeRect(sx, sy, (width + 6) * S.zoom, (height + 6) * S.zoom);
    }
    pen.setLineDash([]);
  }
  if (S.stroke) paintStroke();
  $(".sofs-zoom output").textContent = `${Math.round(100 * S.zoom / ratio())} %`;
}

function paintStroke() {
  const { tool, points, width } = S.stroke;
  pen.strokeStyle = pen.fillStyle = tool === "eraser" ? "#ffffffa0" : `${$(".sofs-colour").value}b0`;
  const [first, last] = [toScreen(...points[0]), toScreen(...points[points.length - 1])];
  if (tool === "rectangle") {
    pen.fillRect(first[0], first[1], last[0] - first[0], last[1] - first[1]);
    return;
  }
  Object.assign(pen, { lineWidth: Math.max(1, width * S.zoom), lineCap: "round", lineJoin: "round" });
  pen.beginPath();
  pen.moveTo(...first);
  for (const point of points) pen.lineTo(...toScreen(...point));
  pen.stroke();
}

// -- tiles ----------------------------------------------------------------------------------------------------------

function tile(scale, column, row) {
  const key = `${scale}/${column}/${row}`;
  let known = S.tiles.get(key);
  if (!known) {
    known = new Image();
    known.onload = draw;
    known.src = address("tile", { image: S.image, scale, x: column, y: row });
    S.tiles.set(key, known);
    if (S.tiles.size > 160) S.tiles.delete(S.tiles.keys().next().value);
  }
  return known.complete && known.naturalWidth ? known : null;
}

function overlay(scale, column, row) {
  const key = `${scale}/${column}/${row}`, wanted = version(current());
  let known = S.overlays.get(key);
  if (!known) {
    known = { version: null, codes: null, canvas: null };
    S.overlays.set(key, known);
    if (S.overlays.size > 160) S.overlays.delete(S.overlays.keys().next().value);
  }
  if (known.version !== wanted) {
    known.version = wanted;
    loadOverlay(known, { image: S.image, scale, x: column, y: row });
  }
  return known.canvas;
}

async function loadOverlay(known, asked) {
  try {
    const blob = await (await ask("overlay", asked)).blob();
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const reader = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
    reader.drawImage(bitmap, 0, 0);
    known.codes = reader.getImageData(0, 0, bitmap.width, bitmap.height);
    colour(known);
    if (!S.drag && !S.busy) S.stroke = null;
    draw();
  } catch (error) { known.version = null; }
}

function recolour() { S.overlays.forEach(colour); draw(); if (S.state) { showStatus(); showList(); } }

// Numbers become colours: what was found lightly, what was marked strongly, what was rejected striped; outlines lie
// just outside, so that a defect of one pixel is not painted over.
function colour(known) {
  if (!known.codes || !S.state) return;
  const { width, height, data } = known.codes, classes = S.state.classes;
  const colours = [[0, 0, 0], ...classes.map((entry) => [1, 3, 5].map((i) => parseInt(entry.colour.slice(i, i + 2), 16)))];
  const image = current(), limits = [256, ...classes.map((entry) => limit(image, entry.name))];
  const codes = new Uint16Array(width * height);
  for (let i = 0, j = 0; i < codes.length; i++, j += 4) {
    codes[i] = data[j + 2] || (data[j + 1] && data[j] >= limits[data[j + 1]] ? FOUND + data[j + 1] : 0);
  }
  const picture = new ImageData(width, height), out = picture.data;
  const set = (i, [r, g, b], alpha) => { out[4 * i] = r; out[4 * i + 1] = g; out[4 * i + 2] = b; out[4 * i + 3] = alpha; };
  for (let i = 0, y = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const code = codes[i];
      if (code === 0) {
        const near = (x && codes[i - 1]) || (x + 1 < width && codes[i + 1]) || (y && codes[i - width]) || (y + 1 < height && codes[i + width]);
        if (near === REJECTED || near === IGNORED) set(i, [150, 150, 150], 200);
        else if (near) set(i, colours[near % FOUND] || [255, 255, 255], 255);
      } else if (code === REJECTED) { if ((x + y) % 8 < 3) set(i, [235, 235, 235], 190); } else if (code === IGNORED) { if (x % 4 === 0 && y % 4 === 0) set(i, [235, 235, 235], 190); } else if (code > FOUND) set(i, colours[code - FOUND] || [255, 255, 255], 70);
      else set(i, colours[code] || [255, 255, 255], 150);
    }
  }
  known.canvas = new OffscreenCanvas(width, height);
  known.canvas.getContext("2d").putImageData(picture, 0, 0);
}

// -- hands ----------------------------------------------------------------------------------------------------------

const HINTS = {
  look: "Drag to move, wheel to zoom, click a find to judge it.",
  brush: "Paint over the defect. Wheel to zoom, right button to move.",
  eraser: "Paint over marks or rejected regions to take them away.",
  rectangle: "Drag from corner to corner of the defect.",
  grow: "Click into the defect: all of its colour around is marked. Tolerance says how alike.",
};

function use(tool) {
  S.tool = tool;
  root.querySelectorAll("[data-tool]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.tool === tool));
  const growing = tool === "grow", size = $(".sofs-size");
  size.firstChild.textContent = growing ? "tolerance " : "width ";
  size.querySelector("input").value = size.querySelector("output").value = growing ? S.tolerance : S.width;
  canvas.style.cursor = tool === "look" ? "grab" : "crosshair";
  $(".sofs-hint").textContent = HINTS[tool];
}

canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  canvas.focus();
  const [x, y] = toImage(event), move = S.tool === "look" || event.button !== 0;
  S.drag = { move, from: [event.clientX, event.clientY], x: S.x, y: S.y, far: false };
  if (!move) S.stroke = { tool: S.tool, points: [[x, y]], width: S.width, tolerance: S.tolerance };
  draw();
};

canvas.onpointermove = (event) => {
  if (!S.drag) return;
  const [dx, dy] = [event.clientX - S.drag.from[0], event.clientY - S.drag.from[1]];
  S.drag.far ||= Math.hypot(dx, dy) > 4;
  if (S.drag.move) {
    if (S.drag.far) look(S.drag.x - (dx * ratio()) / S.zoom, S.drag.y - (dy * ratio()) / S.zoom, S.zoom);
  } else if (S.tool === "rectangle") S.stroke.points[1] = toImage(event);
  else if (S.tool !== "grow" && S.stroke.points.length < 20000) S.stroke.points.push(toImage(event));
  draw();
};

canvas.onpointerup = async (event) => {
  const drag = S.drag, stroke = S.stroke;
  S.drag = null;
  if (!drag) return;
  if (drag.move) {
    if (!drag.far) chooseAt(...toImage(event));
    return;
  }
  if (stroke.tool === "rectangle" && stroke.points.length < 2) stroke.points.push(stroke.points[0]);
  if (!(await decide("paint", { stroke, label: $(".sofs-class").value }))) S.stroke = null;
  draw();
};

canvas.onpointercancel = () => { S.drag = S.stroke = null; draw(); };
canvas.oncontextmenu = (event) => event.preventDefault();

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const [x, y] = toImage(event), zoom = Math.min(32, Math.max(0.02, S.zoom * 1.0015 ** -event.deltaY)), by = S.zoom / zoom;
  look(x + (S.x - x) * by, y + (S.y - y) * by, zoom);
}, { passive: false });

function chooseAt(x, y) {
  const reach = 8 / S.zoom;
  const inside = S.regions.filter(({ box: [left, top, width, height] }) => x >= left - reach && x <= left + width + reach && y >= top - reach && y <= top + height + reach);
  choose(inside.sort((a, b) => a.box[2] * a.box[3] - b.box[2] * b.box[3])[0] || null);
}

const decide = (path, said) => say(path, { image: S.image, revision: current().revision, ...said });

root.querySelectorAll("[data-tool]").forEach((button) => { button.onclick = () => use(button.dataset.tool); });
$(".sofs-size input").oninput = (event) => {
  S[S.tool === "grow" ? "tolerance" : "width"] = Number(event.target.value);
  $(".sofs-size output").value = event.target.value;
};
$(".sofs-class").oninput = () => { showColour(); showRegions(); };
$(".sofs-colour").onchange = (event) => say("colour", { label: $(".sofs-class").value, colour: event.target.value });
$(".sofs-undo").onclick = () => decide("undo", {});
$(".sofs-good").onclick = () => decide("good", {});
async function judge(path) {
  const chosen = S.chosen;
  if (await decide(path, { x: chosen.x, y: chosen.y, step: S.step, label: $(".sofs-class").value })) choose(null);
}
$(".sofs-reject").onclick = () => judge("reject");
$(".sofs-accept").onclick = () => judge("accept");
$("[data-zoom=fit]").onclick = fit;
$("[data-zoom=native]").onclick = () => look(S.x, S.y, ratio());
root.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT") return;
  if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); decide("undo", {}); }
  const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (move) {
    event.preventDefault();
    const names = sorted().map((image) => image.name), next = names[names.indexOf(S.image) + move];
    if (next) open(next);
  }
});

let waiting = 0;
S.setStep = (step) => { // the slider: colours at once, the rest when it rests
  S.step = step;
  recolour();
  clearTimeout(waiting);
  waiting = setTimeout(async () => { S.state.step = step; await say("threshold", { step }); loadRegions(); }, 250);
};

new ResizeObserver(() => {
  const box = canvas.getBoundingClientRect();
  Object.assign(canvas, { width: Math.max(1, box.width * ratio()), height: Math.max(1, box.height * ratio()) });
  if (S.state && S.image) { if (S.fitted) fit(); draw(); }
}).observe(canvas);

use("look");
poll();
