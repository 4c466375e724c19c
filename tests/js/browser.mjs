// A headless Chromium that a test drives: node browser.mjs /usr/bin/chromium

import { chromium } from "playwright-core";
import { serve } from "./lines.mjs";

const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
});

const scope = { page: null, faults: [], open };

// Open a page in a browser that remembers nothing; `faults` is what it complains of from now on.
async function open(url, { width = 1280, height = 800, colorScheme = "light" } = {}) {
  await scope.page?.context().close();
  scope.faults.length = 0;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme });
  scope.page = await context.newPage();
  scope.page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) scope.faults.push(message.text());
  });
  scope.page.on("pageerror", (error) => scope.faults.push(String(error)));
  await scope.page.goto(url);
}

await serve(scope);
await browser.close();
