// Part of the page of: scriptling-ws --server :8080 examples/chat/setup.py
// Images: made smaller before they are sent, and how they travel.

/** The largest file that is taken. */
export const LARGEST_FILE = 20 * 1024 * 1024;
/** What is left of it at most: the server takes 512 KiB, with what stands before the image. */
export const LARGEST_SENT = 480 * 1024;
const SIDES = [1600, 1200, 900, 640, 400]; // of the longer side, tried one after the other
const QUALITY = 0.82;

/** A size, as people read it. */
export function shownSize(bytes) {
  if (bytes < 1024 * 1024) return `${Math.max(1, Math.round(bytes / 1024))} KB`;
  return `${(bytes / 1024 / 1024).toFixed(bytes < 10 * 1024 * 1024 ? 1 : 0).replace(".0", "")} MB`;
}

/**
 * Make a file fit to be sent: { blob, width, height }. It is drawn anew, so that nothing else goes
 * with it, such as the place where it was taken; a small GIF stays as it is, as it may move.
 * An Error says what is wrong in words for the one who has chosen it.
 */
export async function prepare(file) {
  if (!file.type.startsWith("image/")) throw new Error("That is no image.");
  if (file.size > LARGEST_FILE) {
    throw new Error(`That image has ${shownSize(file.size)}. The most is ${shownSize(LARGEST_FILE)}.`);
  }
  const picture = await open(file);
  try {
    const { naturalWidth: width, naturalHeight: height } = picture;
    if (!width || !height) throw new Error("That image has no size of its own.");
    if (file.type === "image/gif" && file.size <= LARGEST_SENT) return { blob: file, width, height };
    for (const side of SIDES) {
      const scale = Math.min(1, side / Math.max(width, height));
      const drawn = await draw(picture, width * scale, height * scale);
      if (drawn.blob.size <= LARGEST_SENT) return drawn;
    }
  } finally {
    URL.revokeObjectURL(picture.src);
  }
  throw new Error("That image cannot be made small enough.");
}

async function open(file) {
  const picture = new Image();
  picture.src = URL.createObjectURL(file);
  try {
    await picture.decode();
  } catch {
    URL.revokeObjectURL(picture.src);
    throw new Error("That image cannot be read.");
  }
  return picture;
}

async function draw(picture, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(width));
  canvas.height = Math.max(1, Math.round(height));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  let blob = await encoded(canvas, "image/webp");
  if (blob?.type !== "image/webp") { // a browser that cannot write it; JPEG knows no transparency
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    blob = await encoded(canvas, "image/jpeg");
  }
  if (!blob) throw new Error("That image is too large to be drawn.");
  return { blob, width: canvas.width, height: canvas.height };
}

function encoded(canvas, type) {
  return new Promise((resolve) => { canvas.toBlob(resolve, type, QUALITY); });
}

/** A binary message: a line of JSON, and the image. */
export function pack(header, blob) {
  return new Blob([`${JSON.stringify(header)}\n`, blob]);
}

/** The same from the server: the header, with the image as `blob`. */
export function unpack(buffer) {
  const bytes = new Uint8Array(buffer);
  const end = bytes.indexOf(10);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  return { ...header, blob: new Blob([bytes.subarray(end + 1)], { type: header.type }) };
}
