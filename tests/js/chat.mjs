// The chat class and the transport of a major of the npm package `ai`, as a page has them: node chat.mjs ai

import { serve } from "./lines.mjs";

const { AbstractChat, DefaultChatTransport } = await import(process.argv[2]);

// What a framework's binding adds: a place for the state. This one notes each status that there was.
class State {
  messages = [];
  error = undefined;
  statuses = [];

  get status() {
    return this.statuses.at(-1) ?? "ready";
  }

  set status(status) {
    this.statuses.push(status);
  }

  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };

  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };

  replaceMessage = (index, message) => {
    this.messages = this.messages.map((old, at) => (at === index ? this.snapshot(message) : old));
  };

  snapshot = structuredClone;
}

class Chat extends AbstractChat {
  ends = []; // what onFinish was told, without the messages

  constructor(options) {
    super({
      state: new State(),
      transport: new DefaultChatTransport(options),
      onFinish: ({ message, messages, ...end }) => this.ends.push(end),
    });
  }

  get statuses() {
    return this.state.statuses;
  }

  get answer() {
    return this.messages.at(-1);
  }

  // The text of the answer so far.
  get text() {
    const parts = this.answer?.role === "assistant" ? this.answer.parts : [];
    return parts.map((part) => (part.type === "text" ? part.text : "")).join("");
  }
}

const scope = { chat: null, begin };

// Begin a conversation; `options` are the transport's.
function begin(options) {
  scope.chat = new Chat(options);
}

await serve(scope);
