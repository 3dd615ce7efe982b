// The picture as the net sees it, and the class activation map over it.

import { geometry } from "./pixels.js";

const LONGER_SIDE = 640;
const COLOURS = [[0, 0, 4], [87, 15, 109], [187, 54, 84], [249, 140, 10], [252, 255, 164]];

/** Draws the part of an image that the net sees; returns the canvas's size. */
export function drawPicture(canvas, image, preprocess) {
  const { old, resized, offset, size } = geometry(image.height, image.width, preprocess);
  const scale = LONGER_SIDE / Math.max(...size);
  canvas.height = Math.round(size[0] * scale);
  canvas.width = Math.round(size[1] * scale);
  const [top, left] = offset.map((start, i) => (start * old[i]) / resized[i]);
  const [height, width] = size.map((side, i) => (side * old[i]) / resized[i]);
  const source = document.createElement("canvas");
  source.width = image.width;
  source.height = image.height;
  source.getContext("2d").putImageData(image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = canvas.width < 4 * width;
  context.imageSmoothingQuality = "high";
  context.drawImage(source, left, top, width, height, 0, 0, canvas.width, canvas.height);
}

/** Returns a map in 0..1 at a canvas's size: negative values are 0, linear between the cells. */
export function spread(map, rows, columns, height, width) {
  const peak = Math.max(...map, 0) || 1;
  const [ys, xs] = [places(rows, height), places(columns, width)];
  const result = new Float32Array(height * width);
  const at = (y, x) => Math.max(0, map[y * columns + x]) / peak;
  for (let y = 0, to = 0; y < height; y++) {
    const [top, down] = ys[y];
    const bottom = Math.min(top + 1, rows - 1);
    for (let x = 0; x < width; x++, to++) {
      const [left, along] = xs[x];
      const right = Math.min(left + 1, columns - 1);
      result[to] = (1 - down) * ((1 - along) * at(top, left) + along * at(top, right)) +
        down * ((1 - along) * at(bottom, left) + along * at(bottom, right));
    }
  }
  return result;
}

/** Draws a map: transparent where it is 0. */
export function drawMap(canvas, map, rows, columns) {
  const { width, height } = canvas;
  const values = spread(map, rows, columns, height, width);
  const image = new ImageData(width, height);
  values.forEach((value, i) => {
    const place = value * (COLOURS.length - 1);
    const low = Math.min(Math.floor(place), COLOURS.length - 2);
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = COLOURS[low][c] + (place - low) * (COLOURS[low + 1][c] - COLOURS[low][c]);
    }
    image.data[4 * i + 3] = 255 * Math.min(1, 1.6 * value);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function places(cells, count) {
  return Array.from({ length: count }, (_, i) => {
    const place = Math.min(Math.max(((i + 0.5) * cells) / count - 0.5, 0), cells - 1);
    return [Math.floor(place), place - Math.floor(place)];
  });
}
