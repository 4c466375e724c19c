// Run what tests/node.py sends: each line is the body of an asynchronous function, each answer a line of JSON.

import { createInterface } from "node:readline";

const AsyncFunction = (async () => {}).constructor;
const SECONDS = 30; // how long anything may take on a busy machine

// Answer until the input ends; `scope` holds the names that the code finds.
export async function serve(scope) {
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await run(JSON.parse(line), scope)) + "\n");
  }
}

async function run({ code, values }, scope) {
  const names = { ...scope, ...values, until };
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Not done after ${SECONDS} s`)), SECONDS * 1000);
  });
  try {
    const done = new AsyncFunction(...Object.keys(names), code)(...Object.values(names));
    return { value: (await Promise.race([done, late])) ?? null };
  } catch (error) {
    return { error: error?.stack ?? String(error) };
  } finally {
    clearTimeout(timer);
  }
}

// Wait for a condition to be true, and return what it gave; run() limits the time.
async function until(condition) {
  for (;;) {
    const found = condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
