// Makes the staging container in Azurite, unless it is there. Azurite's own image has Node.js and no client for storage, so the
// request is signed here (Azure Storage, "Authorize with Shared Key"). Usage: node make-container.js ADDRESS_OF_CONTAINER
"use strict";
const { createHmac } = require("node:crypto");
const http = require("node:http");

const container = new URL(process.argv[2] ?? "http://127.0.0.1:10000/devstoreaccount1/staging");
const account = container.pathname.split("/")[1];
// Azurite's well-known key, unless another is given. It opens nothing else.
const key =
  process.env.STORAGE_KEY ??
  "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
const TRIES_MAX = 60;

/** Resolves to the status of the answer. */
function putContainer() {
  const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
  const named = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const resource = `/${account}${container.pathname}\nrestype:container`;
  // The method, eleven headers that are not sent, then what is.
  const toSign = `PUT${"\n".repeat(12)}${named.join("")}${resource}`;
  const signature = createHmac("sha256", Buffer.from(key, "base64")).update(toSign, "utf8").digest("base64");
  headers.Authorization = `SharedKey ${account}:${signature}`;
  headers["Content-Length"] = 0;
  return new Promise((resolve, reject) => {
    const url = new URL(container);
    url.searchParams.set("restype", "container");
    const request = http.request(url, { method: "PUT", headers }, (answer) => {
      answer.resume().on("end", () => resolve(answer.statusCode));
    });
    request.on("error", reject).end();
  });
}

async function main() {
  for (let left = TRIES_MAX; ; left--) {
    const status = await putContainer().catch((error) => error.message);
    if (status === 201 || status === 409) return;
    if (left === 0) throw new Error(`${container}: ${status}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
