// The file under LiteRT.js: compiled for a backend, run on one image, its outputs as arrays.

import { Tensor, isWebGPUSupported, loadAndCompile, loadLiteRt, supportsFeature } from "@litertjs/core";

export const BACKENDS = { webgpu: "WebGPU", wasm: "WebAssembly" };

/** Loads LiteRT.js, with threads where the server allows them. */
export async function start() {
  const threads = globalThis.crossOriginIsolated === true &&
    (await supportsFeature("relaxedSimd")) && (await supportsFeature("threads"));
  await loadLiteRt("litertjs/core/wasm/", { threads });
  return threads ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
}

/** Returns the backends of this browser, the one to begin with first. */
export async function backends() {
  const adapter = isWebGPUSupported() ? await navigator.gpu.requestAdapter().catch(() => null) : null;
  return adapter ? ["webgpu", "wasm"] : ["wasm"];
}

export class Classifier {
  constructor(description, file, head) {
    this.description = description;
    this.file = file;
    this.head = head; // kernel and bias, one after the other
    this.model = null;
  }

  static async load(description) {
    const [file, head] = await Promise.all([
      bytes(description.file), description.map ? bytes(description.map.file) : null,
    ]);
    return new Classifier(description, new Uint8Array(file), head && new Float32Array(head));
  }

  /** Compiles the file for a backend; returns the backend that runs it. */
  async compile(backend, threads) {
    this.model?.delete();
    this.model = await loadAndCompile(this.file, {
      accelerator: backend, cpuOptions: { numThreads: threads }, gpuOptions: { precision: "fp32" },
    });
    const { height, width, channels, dtype } = this.description.input;
    const kind = dtype === "uint8" ? Uint8Array : Float32Array;
    await this.run(new kind(height * width * channels)); // the first run is slower
    return backend === "webgpu" && !this.model.isFullyAccelerated ? "wasm" : backend;
  }

  /** Runs the file; returns its outputs by name, and the milliseconds. */
  async run(input) {
    const { name, height, width, channels } = this.description.input;
    const tensor = new Tensor(input, [1, height, width, channels]);
    const began = performance.now();
    const results = await this.model.run({ [name]: tensor });
    const outputs = {};
    for (const [key, value] of Object.entries(results)) {
      const onHost = value.accelerator === "wasm" ? value : await value.moveTo("wasm");
      outputs[key] = onHost.toTypedArray().slice();
      onHost.delete();
    }
    const milliseconds = performance.now() - began;
    if (!tensor.deleted) tensor.delete();
    return { outputs, milliseconds };
  }

  /** Returns the probability of each class. */
  probabilities(outputs) {
    const { name, activation } = this.description.output;
    const values = outputs[name];
    if (activation === "none") return values;
    if (activation === "sigmoid") return values.map((value) => 1 / (1 + Math.exp(-value)));
    const highest = Math.max(...values);
    const powers = Float64Array.from(values, (value) => Math.exp(value - highest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return Float32Array.from(powers, (power) => power / sum);
  }

  /** Returns the map of a class: the features weighted by the classifier (Zhou et al. 2016). */
  map(outputs, index) {
    const { height, width, channels } = this.description.map;
    const features = outputs.features;
    const result = new Float32Array(height * width);
    for (let at = 0, from = 0; at < result.length; at++) {
      let sum = 0;
      for (let c = 0; c < channels; c++, from++) sum += features[from] * this.head[index * channels + c];
      result[at] = sum;
    }
    return result;
  }
}

async function bytes(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} could not be loaded (${response.status}).`);
  return response.arrayBuffer();
}
