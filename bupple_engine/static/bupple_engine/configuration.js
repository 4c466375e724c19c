/* The admin page: checks in place, and the answer of a driver while it is written. Without it, "Check now" is a plain form. */

document.addEventListener("submit", (event) => {
  if (event.target.id === "bupple-drivers") {
    event.preventDefault();
    check(event.target, event.submitter);
  }
});

/* Post the form, and put the table that comes in the place of the one that is there. */
async function check(form, button) {
  const body = new FormData(form);
  if (button?.name) body.set(button.name, button.value);
  const summary = form.querySelector(".bupple-summary");
  const lock = (locked) => {
    form.setAttribute("aria-busy", locked);
    for (const each of form.querySelectorAll("button")) each.disabled = locked;
  };
  lock(true);
  summary.textContent = form.dataset.checking;
  try {
    const response = await fetch(form.action, { method: "POST", body, headers: { "X-Requested-With": "fetch" } });
    if (!response.ok || response.redirected) throw new Error(response.status);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const table = page.getElementById("bupple-table");
    document.getElementById("bupple-table").replaceWith(table);
    summary.textContent = table.dataset.summary;
  } catch {
    summary.textContent = form.dataset.broken;
  }
  lock(false);
  const again = button?.name ? form.querySelector(`button[name][value="${CSS.escape(button.value)}"]`) : button;
  again?.focus();
}

const form = document.getElementById("bupple-try");
if (form) {
  const answer = document.getElementById("bupple-answer");
  const part = (name) => answer.querySelector(`.bupple-${name}`);
  const send = form.querySelector("[type=submit]");
  const stop = form.querySelector(".bupple-stop");
  let reader = null;

  form.hidden = false;
  stop.addEventListener("click", () => reader?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    reader = new AbortController();
    answer.hidden = false;
    answer.setAttribute("aria-busy", "true");
    part("content").textContent = "";
    part("problem").hidden = part("facts").hidden = true;
    say("waiting");
    send.disabled = true;
    stop.hidden = false;
    stop.focus();
    try {
      await read(form, reader.signal);
      say("complete");
    } catch (error) {
      if (!reader.signal.aborted) {
        part("problem").textContent = error instanceof Refusal ? error.message : form.dataset.cut;
        part("problem").hidden = false;
      }
      say(reader.signal.aborted ? "stopped" : "failed");
    }
    answer.removeAttribute("aria-busy");
    send.disabled = false;
    const focused = document.activeElement === stop;
    stop.hidden = true;
    if (focused) send.focus();
  });

  function say(state) {
    part("state").textContent = form.dataset[state];
    answer.scrollIntoView({ block: "nearest" });
  }

  /* Write the answer into the page as it comes; throw what ended it before its end. */
  async function read(form, signal) {
    const began = performance.now();
    const body = new FormData(form);
    const response = await fetch(form.action, { method: "POST", body, signal });
    const type = response.headers.get("Content-Type") ?? "";
    if (type.startsWith("application/json")) throw new Refusal((await response.json()).error.message);
    if (!type.startsWith("text/event-stream")) throw new Refusal(form.dataset.refused);
    let first = null;
    for await (const event of events(response.body)) {
      const data = JSON.parse(event.data);
      if (event.name === "error") throw new Refusal(data.error.message);
      if (data.content) {
        first ??= performance.now() - began;
        say("writing");
        const followed = answer.getBoundingClientRect().bottom <= innerHeight + 1;
        part("content").append(data.content);
        part("content").scrollTop = part("content").scrollHeight;
        if (followed) answer.scrollIntoView({ block: "nearest" });
      } else if (!data.done && first === null) {
        say("thinking");
      }
      if (data.done) return report(data, first, performance.now() - began);
    }
    throw new Error("no last chunk");
  }

  function report(chunk, first, total) {
    const seconds = (time) => time === null ? form.dataset.none : new Intl.NumberFormat(document.documentElement.lang || undefined, { style: "unit", unit: "second", maximumFractionDigits: 2 }).format(time / 1000);
    const count = (tokens) => tokens ?? form.dataset.none;
    const usage = chunk.usage ?? {};
    const facts = {
      model: chunk.model || form.dataset.none,
      tokens: `${count(usage.prompt_tokens)} + ${count(usage.completion_tokens)}`,
      finish: chunk.finish_reason,
      first: seconds(first),
      total: seconds(total),
    };
    part("facts").replaceChildren(...Object.entries(facts).map(([name, value]) => {
      const group = document.createElement("div");
      group.append(Object.assign(document.createElement("dt"), { textContent: form.dataset[name] }));
      group.append(Object.assign(document.createElement("dd"), { textContent: value }));
      return group;
    }));
    part("facts").hidden = false;
  }
}

/* What the server says in words. */
class Refusal extends Error {}

/* Yield the events of a native event stream; a comment is none. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = { name: "message", data: "" };
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) event.name = line.slice(7);
        if (line.startsWith("data: ")) event.data += line.slice(6);
      }
      if (event.data) yield event;
    }
  }
}
