const form = document.querySelector("#composer");
const text = document.querySelector("#text");
const sendButton = document.querySelector("#send");
const stopButton = document.querySelector("#stop");
const status = document.querySelector("#status");
const model = document.querySelector("#model");
const welcome = document.querySelector("#welcome");
const log = document.querySelector("#log");
const page = document.querySelector("#page");

const endings = {
  length: "cut off at the length limit",
  content_filter: "cut off by a content filter",
  refusal: "declined by the model",
};

// The conversation, which the server does not keep: {role, content}, of an answer also {reasoning, note, error}.
let turns = [];
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
  clear();
  text.focus();
});

document.querySelector("#leave").addEventListener("submit", clear);

addEventListener("pagehide", () => {
  stop();
  save(); // of an answer that is being written what there is of it
});

restore();

// Sent before this script was there, a message would leave the page, and be lost.
for (const button of document.querySelectorAll("button:disabled")) button.disabled = false;

function ask(content) {
  if (!content || controller) return;
  text.value = "";
  for (const retry of log.querySelectorAll(".error button")) retry.remove();
  addTurn({ role: "user", content });
  answer();
}

// Closing the connection is all it takes: the server then closes the model's stream.
function stop() {
  controller?.abort();
}

function clear() {
  stop();
  turns = [];
  log.replaceChildren();
  welcome.hidden = false;
  save();
}

async function answer() {
  const conversation = turns
    .filter((turn) => turn.content && !turn.error)
    .map(({ role, content }) => ({ role, content }));
  const turn = { role: "assistant", content: "", reasoning: "", note: "Stopped" }; // until it is complete
  const article = addTurn(turn);
  const { signal } = (controller = new AbortController());
  const started = performance.now();
  let last = null;
  setWriting(article, true);
  try {
    for await (const chunk of streamChunks(conversation, signal)) {
      turn.content += chunk.content;
      if (!chunk.done) turn.reasoning += chunk.metadata?.reasoning ?? "";
      keepAtEnd(() => showText(article, turn));
      if (chunk.done) last = chunk;
    }
    if (!last) throw new Error("The answer broke off.");
    turn.note = describe(last, performance.now() - started);
    if (last.model) model.textContent = last.model;
  } catch ({ message, type }) {
    if (!signal.aborted) turn.error = { message, type };
  }
  controller = null;
  setWriting(article, false);
  if (!article.isConnected) return; // a new chat has begun meanwhile
  status.textContent = turn.error ? "" : last ? "The answer is complete." : "The answer was stopped.";
  keepAtEnd(() => showEnd(article, turn));
  save();
}

// Post the conversation and yield the answer's chunks; what goes wrong throws an Error that can be shown.
async function* streamChunks(messages, signal) {
  const response = await fetch(form.action, {
    method: "POST",
    headers: {
      Accept: "text/event-stream",
      "Content-Type": "application/json",
      "X-CSRFToken": document.cookie.match(/\bcsrftoken=([^;]*)/)?.[1] ?? "",
    },
    body: JSON.stringify({ messages }),
    signal,
  }).catch(() => {
    throw new Error("The server can't be reached.");
  });
  if (!response.ok) throw await readFailure(response);
  for await (const { name, data } of readEvents(response.body)) {
    if (name === "error") throw failure(data.error);
    yield data;
  }
}

// Return what a response without an answer says: the API's JSON, or nothing that could be shown.
async function readFailure(response) {
  const body = await response.json().catch(() => null);
  return body?.error ? failure(body.error) : new Error(`The server answered with status ${response.status}.`);
}

function failure({ message, type, id }) {
  return Object.assign(new Error(id ? `${message}\nThe server's log has more under ${id}.` : message), { type });
}

// Yield the server-sent events of a body: lines of "field: value", and a blank line after each event.
async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read().catch(() => {
      throw new Error("The connection to the server broke.");
    });
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

// Add a turn to the conversation, and return the article that shows it.
function addTurn(turn) {
  turns.push(turn);
  const article = document.querySelector("#turn").content.cloneNode(true).firstElementChild;
  article.classList.add(turn.role);
  article.querySelector("h3").textContent = turn.role === "user" ? "You" : "Answer";
  showText(article, turn);
  welcome.hidden = true;
  log.append(article);
  scrollToEnd();
  return article;
}

function showText(article, { content, reasoning }) {
  article.querySelector(".content").textContent = content;
  if (!reasoning) return;
  article.querySelector(".reasoning").hidden = false;
  article.querySelector(".reasoning p").textContent = reasoning;
}

function showEnd(article, { note, error }) {
  if (!error) {
    article.querySelector("footer").textContent = note;
    return;
  }
  const line = article.querySelector(".error");
  const button = line.querySelector("button");
  line.querySelector("span").textContent = error.message;
  line.hidden = false;
  if (error.type === "NotAuthenticated") {
    button.textContent = "Sign in";
    button.addEventListener("click", () => location.reload()); // the page itself asks for it
    return;
  }
  button.addEventListener("click", () => {
    if (controller) return;
    turns.pop();
    article.remove();
    text.focus();
    answer();
  });
}

function setWriting(article, writing) {
  article.classList.toggle("writing", writing);
  log.ariaBusy = String(writing); // screen readers then read an answer once, and whole
  stopButton.hidden = !writing;
  sendButton.hidden = writing;
  if (writing) status.textContent = "The answer is being written.";
  else if (document.activeElement === document.body) text.focus(); // the Stop button had it, and is gone
}

function describe(chunk, milliseconds) {
  const tokens = chunk.usage?.completion_tokens;
  const seconds = `${(milliseconds / 1000).toFixed(1)} s`;
  const parts = [chunk.model, tokens && `${tokens} tokens`, seconds, endings[chunk.finish_reason]];
  return parts.filter(Boolean).join(" · ");
}

// Keep the conversation for as long as the tab lives; a sign-out, and another's sign-in, end it.
function save() {
  try {
    sessionStorage.setItem("conversation", JSON.stringify({ user: form.dataset.user, turns }));
  } catch {
    // It is larger than the browser stores: then it is this page's alone.
  }
}

function restore() {
  const saved = JSON.parse(sessionStorage.getItem("conversation"));
  if (saved?.user !== form.dataset.user) return;
  for (const turn of saved.turns) {
    for (const retry of log.querySelectorAll(".error button")) retry.remove();
    const article = addTurn(turn);
    if (turn.role === "assistant") showEnd(article, turn);
  }
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
