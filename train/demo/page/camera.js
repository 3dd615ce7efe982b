// The camera: a stream in the page's video element, and its pictures.

import { pixelsOf } from "./pixels.js";

export const available = Boolean(navigator.mediaDevices?.getUserMedia);

export async function open(video) {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError"
      ? "The browser does not let this page use the camera." : "No camera was found.");
  }
  await video.play();
}

export function close(video) {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

export function picture(video) {
  return pixelsOf(video, video.videoWidth, video.videoHeight);
}
