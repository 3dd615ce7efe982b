// The page: where pictures come from, what is shown of the result.

import * as camera from "./camera.js";
import { BACKENDS, Classifier, backends, start } from "./classifier.js";
import { drawMap, drawPicture } from "./drawing.js";
import { asInput, decode, fit } from "./pixels.js";

const SHOWN = 5;
const $ = (id) => document.getElementById(id);
let description, classifier, threads, last;
let queue = Promise.resolve();
let turn = 0;

const label = (index) => description.labels?.[index] ?? `class ${index}`;
const percent = (share) =>
  share > 0.9995 ? "> 99.9 %" : share >= 0.0005 ? `${(100 * share).toFixed(1)} %` : "< 0.1 %";

function fail(error) {
  $("error").textContent = error.message || String(error);
  $("error").hidden = false;
  $("status").textContent = "";
}

/** Runs actions one after the other, and shows their errors. */
function act(action) {
  queue = queue.then(action).catch(fail);
  return queue;
}

async function classifyBlob(blob, name) {
  const mine = ++turn;
  await act(async () => {
    if (mine !== turn) return; // another picture has come since
    $("error").hidden = true;
    $("status").textContent = "Reading the picture …";
    await classify(await decode(blob), name);
  });
}

async function classify(image, name = "picture") {
  const { input, preprocess } = description;
  const began = performance.now();
  const pixels = fit(image, preprocess, input.channels);
  const resizing = performance.now() - began;
  const { outputs, milliseconds } = await classifier.run(asInput(pixels, input, preprocess));
  const probabilities = classifier.probabilities(outputs);
  const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a] || a - b);
  last = { name, pixels, outputs, probabilities, top: order.slice(0, SHOWN), milliseconds };
  globalThis.demoResult = last; // for tests
  drawPicture($("picture"), image, preprocess);
  $("stage").classList.remove("empty");
  $("milliseconds").textContent = `${milliseconds.toFixed(1)} ms`;
  $("resizing").textContent = `${resizing.toFixed(1)} ms`;
  showRanking();
  showMap(last.top[0]);
  if (!$("live").checked) announce();
}

function announce() {
  const [first] = last.top;
  const time = `${last.milliseconds.toFixed(1)} ms`;
  $("status").textContent = `${label(first)}, ${percent(last.probabilities[first])}, in ${time}`;
  document.title = `${label(first)} – ${description.title}`;
}

function showRanking() {
  const rows = last.top.map((index, rank) => {
    const row = $("classes").children[rank] ?? newRow();
    const share = last.probabilities[index];
    const radio = row.querySelector("input");
    radio.value = index;
    radio.checked = rank === 0;
    row.querySelector(".name").textContent = label(index);
    row.querySelector(".share").textContent = percent(share);
    row.querySelector(".bar").style.width = `${100 * share}%`;
    return row;
  });
  if ($("classes").children.length !== rows.length) $("classes").replaceChildren(...rows);
  $("ranking").hidden = false;
  $("numbers").hidden = false;
  $("map-controls").hidden = !description.map;
}

function newRow() {
  const row = document.createElement("li");
  const holder = document.createElement("label");
  const radio = document.createElement("input");
  radio.type = "radio";
  radio.name = "class";
  radio.addEventListener("change", () => showMap(Number(radio.value)));
  const parts = ["name", "share", "bar"].map((kind) => {
    const part = document.createElement("span");
    part.className = kind;
    return part;
  });
  parts[2].ariaHidden = "true";
  if (description.map) holder.append(radio);
  else holder.append(Object.assign(radio, { hidden: true, disabled: true }));
  holder.append(...parts);
  row.append(holder);
  $("classes").append(row);
  return row;
}

function showMap(index) {
  const shown = description.map && $("show-map").checked;
  $("map").hidden = !shown;
  if (description.map) {
    last.mapOf = index;
    last.map = classifier.map(last.outputs, index);
  }
  if (shown) {
    const { height, width } = description.map;
    $("map").width = $("picture").width;
    $("map").height = $("picture").height;
    $("map").style.opacity = $("opacity").value / 100;
    drawMap($("map"), last.map, height, width);
  }
  const place = shown ? `, with the class activation map of ${label(index)}` : "";
  $("picture").ariaLabel = `${last.name}${place}`;
}

async function choose(backend) {
  $("status").textContent = "Compiling the model …";
  const used = await classifier.compile(backend, threads);
  if (used !== backend) {
    $("status").textContent = `${BACKENDS[backend]} does not run this file: ${BACKENDS[used]}`;
    $("backend").value = used;
    return;
  }
  $("status").textContent = "Ready: choose a picture.";
}

function wireSources() {
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) classifyBlob(file, file.name);
    $("file").value = ""; // the same file again is a change again
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    take(event.dataTransfer, "dropped picture");
  });
  document.addEventListener("paste", (event) => take(event.clipboardData, "pasted picture"));
  $("paste").hidden = !navigator.clipboard?.read;
  $("paste").addEventListener("click", () => act(async () => {
    const items = await navigator.clipboard.read().catch(() => []);
    for (const item of items) {
      const type = item.types.find((each) => each.startsWith("image/"));
      if (type) return void classifyBlob(await item.getType(type), "pasted picture");
    }
    throw new Error("There is no picture in the clipboard.");
  }));
}

function take(transfer, name) {
  const file = [...(transfer?.files ?? [])].find((each) => each.type.startsWith("image/"));
  if (file) classifyBlob(file, file.name || name);
  else if (transfer?.files.length) fail(new Error("This is not a picture."));
}

function wireCamera() {
  const video = $("video");
  $("camera").hidden = !camera.available;
  const show = (on) => {
    $("camera").setAttribute("aria-pressed", on);
    for (const id of ["video", "shoot", "live-label"]) $(id).hidden = !on;
    $("hint").hidden = on;
    if (!on) $("live").checked = false;
  };
  $("camera").addEventListener("click", () => act(async () => {
    if (video.srcObject) {
      camera.close(video);
      return show(false);
    }
    await camera.open(video);
    show(true);
  }));
  $("shoot").addEventListener("click", () => act(async () => {
    await classify(camera.picture(video), "picture of the camera");
    camera.close(video);
    show(false);
  }));
  $("live").addEventListener("change", async () => {
    video.hidden = $("live").checked;
    while ($("live").checked && video.srcObject) {
      await act(() => classify(camera.picture(video), "picture of the camera"));
      await new Promise(requestAnimationFrame);
    }
  });
}

function wireMap() {
  const again = () => last && showMap(last.mapOf ?? last.top[0]);
  $("show-map").addEventListener("change", again);
  $("opacity").addEventListener("input", () => { $("map").style.opacity = $("opacity").value / 100; });
  if (!description.map) {
    $("no-map").textContent = `No class activation map: ${description.noMap}.`;
    $("no-map").hidden = false;
    $("classes").classList.add("plain");
  }
}

function wireSamples() {
  $("samples").hidden = description.samples.length === 0;
  for (const sample of description.samples) {
    const button = document.createElement("button");
    button.type = "button";
    const picture = document.createElement("img");
    picture.src = sample.file;
    picture.alt = sample.name;
    picture.title = sample.name;
    picture.addEventListener("load", () => picture.classList.toggle("pixelated", picture.naturalWidth < 64));
    button.append(picture);
    button.addEventListener("click", async () => {
      for (const other of $("samples").children) other.setAttribute("aria-pressed", other === button);
      await classifyBlob(await (await fetch(sample.file)).blob(), sample.name);
    });
    $("samples").append(button);
  }
}

async function wireBackends() {
  const names = await backends();
  $("backend").replaceChildren(...names.map((name) =>
    new Option(name === "wasm" && threads > 1 ? `${BACKENDS.wasm}, ${threads} threads` : BACKENDS[name], name)));
  $("backend").disabled = names.length === 1;
  $("backend").addEventListener("change", () => act(() => choose($("backend").value)));
  return names[0];
}

async function main() {
  description = await (await fetch("model.json")).json();
  const { input, classes, facts, provenance } = description;
  $("facts").textContent = [
    `${input.width} × ${input.height} pixels`, `${classes} classes`, ...facts].join(" · ");
  $("provenance").textContent = provenance;
  $("legend").textContent = description.output.activation === "sigmoid"
    ? "Most probable labels" : "Most probable classes";
  wireMap();
  wireSources();
  wireCamera();
  threads = await start();
  classifier = await Classifier.load(description);
  await choose(await wireBackends());
  wireSamples();
  globalThis.demoReady = true; // for tests
}

act(main);
