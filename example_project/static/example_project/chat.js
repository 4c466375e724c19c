const form = document.querySelector("#composer");
const text = document.querySelector("#text");
const sendButton = document.querySelector("#send");
const stopButton = document.querySelector("#stop");
const status = document.querySelector("#status");
const model = document.querySelector("#model");
const welcome = document.querySelector("#welcome");
const log = document.querySelector("#log");
const page = document.querySelector("main");

const endings = {
  length: "cut off at the length limit",
  content_filter: "cut off by a content filter",
  refusal: "declined by the model",
};

const messages = []; // the conversation; the server keeps none
let controller = null; // aborts the answer that is being written

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(text.value.trim());
});

text.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});

stopButton.addEventListener("click", stop);

for (const suggestion of document.querySelectorAll(".suggestions button")) {
  suggestion.addEventListener("click", () => ask(suggestion.textContent));
}

document.querySelector("#new").addEventListener("click", () => {
  stop();
  messages.length = 0;
  log.replaceChildren();
  welcome.hidden = false;
  text.focus();
});

function ask(content) {
  if (!content || controller) return;
  text.value = "";
  welcome.hidden = true;
  for (const retry of log.querySelectorAll(".error button")) retry.remove();
  messages.push({ role: "user", content });
  addTurn("user").querySelector(".content").textContent = content;
  answer();
}

// Closing the connection is all it takes: the server then closes the model's stream.
function stop() {
  controller?.abort();
}

async function answer() {
  const turn = addTurn("assistant");
  const content = turn.querySelector(".content");
  const { signal } = (controller = new AbortController());
  const started = performance.now();
  setWriting(turn, true);
  let last = null;
  let error = null;
  try {
    for await (const chunk of streamChunks(signal)) {
      keepAtEnd(() => content.append(chunk.content));
      if (chunk.done) last = chunk;
    }
    if (!last) throw new Error("The answer broke off.");
  } catch (reason) {
    if (!signal.aborted) error = reason;
  }
  controller = null;
  setWriting(turn, false);
  if (!turn.isConnected) return; // a new chat has begun meanwhile
  if (error) {
    keepAtEnd(() => showError(turn, error));
    return;
  }
  if (content.textContent) messages.push({ role: "assistant", content: content.textContent });
  if (last) model.textContent = last.model;
  status.textContent = last ? "The answer is complete." : "The answer was stopped.";
  const footer = turn.querySelector("footer");
  keepAtEnd(() => (footer.textContent = last ? describe(last, performance.now() - started) : "Stopped"));
}

// Post the conversation and yield the answer's chunks.
async function* streamChunks(signal) {
  const response = await fetch(form.action, {
    method: "POST",
    headers: {
      Accept: "text/event-stream, application/json",
      "Content-Type": "application/json",
      "X-CSRFToken": form.elements.csrfmiddlewaretoken.value,
    },
    body: JSON.stringify({ messages }),
    signal,
  }).catch((reason) => {
    throw signal.aborted ? reason : new Error("The server can't be reached.");
  });
  if (!response.ok) throw new Error(await readError(response));
  for await (const { name, data } of readEvents(response.body)) {
    if (name === "error") throw new Error(data.error.message);
    yield data;
  }
}

// Return what a failed response says: our JSON, or the head of the plain report that Django writes under DEBUG.
async function readError(response) {
  const type = response.headers.get("Content-Type") ?? "";
  if (type.startsWith("application/json")) return (await response.json()).error.message;
  if (type.startsWith("text/plain")) return (await response.text()).split("\n\n")[0];
  return `The server answered with status ${response.status}.`;
}

// Yield the server-sent events of a body: lines of "field: value", and a blank line after each event.
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      if (fields.data) yield { name: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

function addTurn(role) {
  const turn = document.querySelector("#turn").content.cloneNode(true).firstElementChild;
  turn.classList.add(role);
  turn.querySelector("h3").textContent = role === "user" ? "You" : "Answer";
  log.append(turn);
  scrollToEnd();
  return turn;
}

function setWriting(turn, writing) {
  turn.classList.toggle("writing", writing);
  log.ariaBusy = String(writing); // screen readers then read an answer once, and whole
  stopButton.hidden = !writing;
  sendButton.hidden = writing;
  if (writing) status.textContent = "The answer is being written.";
  else if (document.activeElement === document.body) text.focus(); // the Stop button had it, and is gone
}

function showError(turn, error) {
  status.textContent = "";
  const line = turn.querySelector(".error");
  line.querySelector("span").textContent = error.message;
  line.hidden = false;
  line.querySelector("button").addEventListener("click", () => {
    if (controller) return;
    turn.remove();
    text.focus();
    answer();
  });
}

function describe(chunk, milliseconds) {
  const tokens = chunk.usage?.completion_tokens;
  const seconds = `${(milliseconds / 1000).toFixed(1)} s`;
  const parts = [chunk.model, tokens && `${tokens} tokens`, seconds, endings[chunk.finish_reason]];
  return parts.filter(Boolean).join(" · ");
}

// Make a change, and follow it unless the reader has scrolled up.
function keepAtEnd(change) {
  const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 80; // pixels
  change();
  if (atEnd) scrollToEnd();
}

function scrollToEnd() {
  page.scrollTop = page.scrollHeight;
}
