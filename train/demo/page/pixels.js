// Images as the net takes them: decoded, resized and cropped as `PreprocessSpec.fit` does in Python.
//
// Resizing follows TensorFlow's `scale_and_translate` (`antialias=True`): pixel centres at halves, a
// kernel that is widened by the reduction, weights that sum to 1. The browser's own resizing has
// other filters, so it is not used.

const KERNELS = {
  bilinear: [1, (x) => Math.max(1 - x, 0)],
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0)],
  lanczos3: [3, (x) => (x < 3 ? sinc(x) * sinc(x / 3) : 0)],
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** Returns the RGBA pixels of an encoded image: upright, without colour management. */
export async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error("This is not a picture that the browser can read.");
  }
  try {
    const image = pixelsOf(bitmap, bitmap.width, bitmap.height);
    return isOpaque(image.data) ? image : withoutTransparency(bitmap) ?? image;
  } finally {
    bitmap.close();
  }
}

function isOpaque(data) {
  for (let i = 3; i < data.length; i += 4) if (data[i] < 255) return false;
  return true;
}

/**
 * Returns the stored colours of an image with transparency, which is dropped, as in Python.
 * A 2D canvas multiplies colours by their opacity; WebGL does not. Null without WebGL.
 */
function withoutTransparency(bitmap) {
  const { width, height } = bitmap;
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const data = new Uint8ClampedArray(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, data);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  for (let i = 3; i < data.length; i += 4) data[i] = 255;
  return new ImageData(data, width, height);
}

/** Returns the RGBA pixels of anything that a canvas can draw. */
export function pixelsOf(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** Returns where the net's input lies in an image: resized sides and the offset of the crop. */
export function geometry(height, width, preprocess) {
  const size = preprocess.size;
  const old = [height, width];
  const scale = Math.max(...size.map((side, i) => side / preprocess.crop_fraction / old[i]));
  const resized = size.map((side, i) => Math.max(roundEven(old[i] * scale), side));
  const offset = size.map((side, i) => Math.floor((resized[i] - side) / 2));
  return { old, resized, offset, size };
}

/** Returns uint8 pixels `(height, width, channels)` at the net's size. */
export function fit(image, preprocess, channels) {
  const place = geometry(image.height, image.width, preprocess);
  const planes = withChannels(image, channels);
  const [rows, columns] = [0, 1].map((axis) =>
    weights(place.old[axis], place.resized[axis], place.offset[axis], place.size[axis], preprocess.interpolation));
  const [height, width] = place.size;
  const firstRow = rows[0].first;
  const lastRow = Math.max(...rows.map((row) => row.first + row.values.length));
  const narrow = new Float32Array((lastRow - firstRow) * width * channels);
  for (let y = firstRow, to = 0; y < lastRow; y++) {
    for (let x = 0; x < width; x++) {
      const { first, values } = columns[x];
      for (let c = 0; c < channels; c++, to++) {
        let sum = 0;
        let from = (y * image.width + first) * channels + c;
        for (let i = 0; i < values.length; i++, from += channels) sum += values[i] * planes[from];
        narrow[to] = sum;
      }
    }
  }
  const result = new Uint8Array(height * width * channels);
  const stride = width * channels;
  for (let y = 0; y < height; y++) {
    const { first, values } = rows[y];
    for (let x = 0; x < stride; x++) {
      let sum = 0;
      let from = (first - firstRow) * stride + x;
      for (let i = 0; i < values.length; i++, from += stride) sum += values[i] * narrow[from];
      result[y * stride + x] = Math.min(255, Math.max(0, roundEven(Math.fround(sum))));
    }
  }
  return result;
}

/** Returns pixels as the file's input takes them. */
export function asInput(pixels, input, preprocess) {
  if (input.mode === "raw") return input.dtype === "uint8" ? pixels : Float32Array.from(pixels);
  const { mean, std } = preprocess;
  const channels = input.channels;
  const swapped = preprocess.channel_order === "bgr";
  return Float32Array.from(pixels, (_, i) => {
    const channel = i % channels;
    const value = pixels[swapped ? i - channel + (channels - 1 - channel) : i];
    return (value - mean[channel % mean.length]) / std[channel % std.length];
  });
}

/** Returns three channels of an RGBA image, or its luma (ITU-R 601-2), rounded as Pillow does. */
function withChannels(image, channels) {
  const { data } = image;
  const count = image.width * image.height;
  const result = new Uint8Array(count * channels);
  for (let i = 0, from = 0, to = 0; i < count; i++, from += 4) {
    if (channels === 1) {
      result[to++] = (19595 * data[from] + 38470 * data[from + 1] + 7471 * data[from + 2] + 0x8000) >> 16;
    } else {
      for (let c = 0; c < 3; c++) result[to++] = data[from + c];
    }
  }
  return result;
}

/** Returns the first pixel and the weights of each pixel of a resized side that is kept. */
function weights(old, resized, offset, count, interpolation) {
  const step = old / resized;
  return Array.from({ length: count }, (_, i) => {
    const center = (offset + i + 0.5) * step - 0.5;
    if (old === resized) return { first: offset + i, values: [1] };
    if (interpolation === "nearest") {
      return { first: Math.min(old - 1, Math.max(0, Math.floor(center + 0.5))), values: [1] };
    }
    if (interpolation === "area") return covered((offset + i) * step, (offset + i + 1) * step, old);
    const [support, kernel] = KERNELS[interpolation];
    const wide = Math.max(step, 1);
    const first = Math.max(0, Math.ceil(center - support * wide));
    const last = Math.min(old - 1, Math.floor(center + support * wide));
    const values = [];
    for (let pixel = first; pixel <= last; pixel++) values.push(kernel(Math.abs(pixel - center) / wide));
    return { first, values: normalized(values) };
  });
}

function covered(from, to, old) {
  const first = Math.floor(from);
  const last = Math.min(old, Math.ceil(to - 1e-9));
  const values = [];
  for (let pixel = first; pixel < last; pixel++) values.push(Math.min(to, pixel + 1) - Math.max(from, pixel));
  return { first, values: normalized(values) };
}

function normalized(values) {
  const sum = values.reduce((a, b) => a + b, 0);
  return values.map((value) => value / sum);
}

function roundEven(x) {
  const low = Math.floor(x);
  const rest = x - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 === 0 ? low : low + 1;
}
