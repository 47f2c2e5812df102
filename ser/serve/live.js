// What the button Live does: the microphone -> the websocket /live -> bars and a table of windows.
// The body of a function of `element`, as Gradio takes it. Text is never set as HTML.
const ROWS = 200;  // windows that stay in the table
const UNSENT = 1 << 20;  // bytes that may wait for a slow connection
const panel = element.querySelector("section");
const find = (name) => panel.querySelector(`.ser-live-${name}`);
const button = panel.querySelector("button"), rows = panel.querySelector("tbody");
const {colours, streams, ...windows} = JSON.parse(panel.dataset.live);
const MICROPHONE = {
  NotAllowedError: "The browser refused the microphone; allow it for this page, then press Live.",
  NotFoundError: "The browser found no microphone; connect one, then press Live.",
};
let end = null;  // while recording: ends it, with a sentence or "" where nothing is wrong

const percent = (value) => `${Math.round(100 * value)}\u00a0%`;
const create = (tag, text, style = {}) => {
  const created = document.createElement(tag);
  created.textContent = text;
  Object.assign(created.style, style);
  return created;
};
const show = (name, text) => {
  find(name).textContent = text;
  find(name).hidden = !text;
};

const microphone = async () => {
  if (!navigator.mediaDevices || !window.AudioWorkletNode)
    throw new Error("Browsers record only on https and localhost; open this page at such an address.");
  const audio = {autoGainControl: false, echoCancellation: false, noiseSuppression: false};
  return navigator.mediaDevices.getUserMedia({audio}).catch((error) => {
    throw new Error(MICROPHONE[error.name] ?? `The microphone cannot be used (${error.name}).`);
  });
};

const refusal = async () => {  // a browser does not tell why a handshake failed
  const answer = await fetch(new URL("metrics", document.baseURI)).catch(() => null);
  if (!answer) return "The server does not answer; is it still running?";
  if (answer.status === 401) return "The session has ended; reload the page.";
  const open = /^ser_live_streams (\d+)/m.exec(await answer.text());
  if (open && open[1] >= streams) return "All live streams of the server are in use; try again later.";
  return "The server, or a proxy before it, refuses websockets.";
};

const connect = () => new Promise((resolve, reject) => {
  const url = new URL("live", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.onopen = () => resolve(socket);
  socket.onerror = async () => reject(new Error(await refusal()));
});

const draw = ({start, end, emotion, unsure, probabilities, attributes, error, left_out}) => {
  const time = `${start.toFixed(1)}–${end.toFixed(1)} s`;
  const rated = Object.entries(attributes).map(([name, value]) => `${name} ${value.toFixed(2)}`);
  const named = emotion === null ? [] : [`${emotion} (${percent(probabilities[emotion])})`];
  const text = error ?? (unsure ? "unsure: " : "") + [...named, ...rated].join(" · ");
  const dot = () => create("span", "● ", {color: colours[emotion] ?? "inherit"});
  find("top").replaceChildren(dot(), `${time}: ${text}`);
  const ranked = Object.entries(probabilities).sort((a, b) => b[1] - a[1]);
  find("bars").replaceChildren(...ranked.flatMap(([name, value]) => [
    create("span", name),
    create("i", "", {width: `${100 * value}%`, background: colours[name]}),
    create("span", percent(value)),
  ]));
  const row = create("tr", "");
  row.append(create("td", time), create("td", ""));
  row.lastChild.append(dot(), text);
  rows.prepend(row);
  if (rows.rows.length > ROWS) rows.lastChild.remove();
  find("windows").hidden = false;
  show("late", left_out ? `Windows left out, as the models are too slow: ${left_out}` : "");
};

const record = async (ended) => {
  const source = await microphone();
  const context = new AudioContext();
  const release = () => source.getTracks().forEach((track) => track.stop());
  try {
    await context.audioWorklet.addModule(new URL("recorder.js", document.baseURI));
    const socket = await connect();
    const closed = new Promise((resolve) => { socket.onclose = resolve; });
    socket.onmessage = ({data}) => draw(JSON.parse(data));
    socket.send(JSON.stringify({rate: context.sampleRate, ...windows}));
    const recorder = new AudioWorkletNode(context, "recorder", {
      numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit",
    });
    recorder.port.onmessage = ({data}) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(data);
      if (socket.bufferedAmount > UNSENT) end("The connection to the server is too slow.");
    };
    source.getTracks()[0].onended = () => end("The microphone was disconnected.");
    context.createMediaStreamSource(source).connect(recorder);
    show("status", `Listening; each prediction is for ${windows.window} s.`);
    const problem = await Promise.race([ended, closed.then(() => "")]);
    recorder.port.onmessage = null;
    release();
    if (socket.readyState === WebSocket.OPEN) socket.send('{"end": true}');
    show("status", "Waiting for the last windows.");
    const {code, reason} = await closed;
    if (problem) throw new Error(problem);
    if (code !== 1000) throw new Error(reason || "The connection to the server was lost.");
  } finally {
    release();
    context.close();
  }
};

button.addEventListener("click", async () => {
  if (end) return end("");
  const ended = new Promise((resolve) => { end = resolve; });
  button.textContent = "Stop";
  show("error", "");
  show("status", "Waiting for the microphone.");
  try {
    await record(ended);
    show("status", "Stopped.");
  } catch (error) {
    show("status", "");
    show("error", error.message);
  }
  end = null;
  button.textContent = "Live";
});
